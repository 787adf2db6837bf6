//go:build race

package demo

// raceDetector says that these tests were built with the race detector.
const raceDetector = true
