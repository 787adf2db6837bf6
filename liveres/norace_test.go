//go:build !race

package liveres_test

// raceEnabled reports that the race detector is built in.
const raceEnabled = false
