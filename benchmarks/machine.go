package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// machine is where a run took place.
type machine struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"` // that Go programs may use
	Platform   string `json:"platform"`
	Go         string `json:"go"`
	Load       string `json:"load,omitempty"` // average of the minute before the run
}

func thisMachine() machine {
	return machine{
		Processor:  processor(),
		Processors: runtime.GOMAXPROCS(0),
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
		Go:         runtime.Version(),
		Load:       load(),
	}
}

func (m machine) String() string {
	s := fmt.Sprintf("%s, %d processors, %s, %s", m.Processor, m.Processors, m.Platform, m.Go)
	if m.Load != "" {
		s += ", load average before the run " + m.Load
	}
	return s
}

// processor returns the processor's name where Linux tells it.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unnamed processor"
}

// load returns the load average of the last minute where Linux tells it.
func load() string {
	averages, _ := os.ReadFile("/proc/loadavg")
	minute, _, _ := strings.Cut(string(averages), " ")
	return minute
}

// versions returns the versions of the modules in this program, by path.
func versions() map[string]string {
	v := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			v[m.Path] = m.Version
		}
	}
	return v
}
