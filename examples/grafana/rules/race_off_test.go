//go:build !race

package rules_test

// raceDetector says that these tests were built with the race detector.
const raceDetector = false
