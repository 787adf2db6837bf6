// Package script holds what happens during a demo, and when: a list of phases, each
// with the faults that services have while it lasts.
package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
)

// Phase is one part of a script.
type Phase struct {
	Scenario string // of which it is a part; empty if of none
	Name     string
	Text     string // what happens in it, for people
	Length   time.Duration
	Faults   map[string]fault.Fault // by service; a service that is not named has none

	// Load is how many times the usual number of orders come in. Zero means 1.
	Load float64
}

// LoadFactor returns Load, or 1 if it is zero.
func (p Phase) LoadFactor() float64 {
	if p.Load == 0 {
		return 1
	}
	return p.Load
}

// Script is a list of phases, played in order.
type Script []Phase

// noise is the fault of a service that is well: nothing is perfect.
var noise = fault.Fault{Share: 0.004, Kinds: []fault.Kind{fault.Error, fault.Cut}}

// but returns the faults of a shop that is well but for those given.
func but(faults map[string]fault.Fault) map[string]fault.Fault {
	all := map[string]fault.Fault{"inventory": noise, "payment": noise, "shipping": noise}
	maps.Copy(all, faults)
	return all
}

// down are the ways in which a service fails that does nothing else.
var down = []fault.Kind{fault.Error, fault.Cut, fault.Hang}

// phases are the phases a script is made of, without their lengths.
var phases = []Phase{
	{
		Name:   "healthy",
		Text:   "every service is well",
		Faults: but(nil),
	},
	{
		Name: "flaky",
		Text: "one request in five to payment fails",
		Faults: but(map[string]fault.Fault{"payment": {Share: 0.2, Kinds: []fault.Kind{
			fault.Error, fault.Error, fault.Cut, fault.Cut, fault.Hang, fault.Overloaded,
		}}}),
	},
	{
		Name:   "outage",
		Text:   "every request to payment fails",
		Faults: but(map[string]fault.Fault{"payment": {Share: 1, Kinds: down}}),
	},
	{
		Name:   "shaky",
		Text:   "payment is back, but three requests in four still fail",
		Faults: but(map[string]fault.Fault{"payment": {Share: 0.75, Kinds: down}}),
	},
	{
		Name:   "slow",
		Text:   "shipping answers well, but after 240ms instead of 9ms",
		Faults: but(map[string]fault.Fault{"shipping": {Share: 1, Kinds: []fault.Kind{fault.Slow}}}),
	},
	{
		Name:   "surge",
		Text:   "twice as many orders, and four requests in five to shipping fail",
		Load:   2,
		Faults: but(map[string]fault.Fault{"shipping": {Share: 0.8, Kinds: down}}),
	},
	{
		Name: "storm",
		Text: "three times as many orders; payment fails as shipping does, inventory now and then",
		Load: 3,
		Faults: but(map[string]fault.Fault{
			"inventory": {Share: 0.15, Kinds: []fault.Kind{fault.Error, fault.Cut}},
			"payment":   {Share: 0.8, Kinds: down},
			"shipping":  {Share: 0.8, Kinds: down},
		}),
	},
	{
		Name:   "recovery",
		Text:   "every service is well again",
		Faults: but(nil),
	},
}

// Scenario is a script with a name.
type Scenario struct {
	Name   string
	Text   string // what is to be seen in it, for people
	Script Script
}

// scenarios are written as [Parse] reads them. Each takes a minute.
var scenarios = []struct{ name, text, script string }{
	{
		"outage", "payment fails altogether: its circuit opens, rejects, probes, and closes",
		"healthy=8s,flaky=14s,outage=20s,recovery=18s",
	},
	{
		"flaky", "one request in five fails: retries save them, and no circuit opens",
		"healthy=8s,flaky=40s,recovery=12s",
	},
	{
		"slow", "nothing fails, but shipping takes its time: slow calls open its circuit",
		"healthy=8s,slow=30s,recovery=22s",
	},
	{
		"storm", "two services fail while orders pile up: what retries cost, and circuits save",
		"healthy=8s,surge=14s,storm=18s,recovery=20s",
	},
	{
		"recovery", "payment comes back half well: probes fail, the circuit opens anew, then closes",
		"healthy=8s,outage=12s,shaky=20s,recovery=20s",
	},
}

// All is the name of the scenario that is all others, one after the other.
const All = "all"

// Scenarios returns all scenarios, the last of which is [All]. The caller owns them.
func Scenarios() []Scenario {
	list := make([]Scenario, 0, len(scenarios)+1)
	all := Scenario{Name: All, Text: "one after the other"}
	for _, s := range scenarios {
		parsed, err := Parse(s.script)
		if err != nil {
			panic(err) // a mistake in the table above, which every test would find
		}
		for i := range parsed {
			parsed[i].Scenario = s.name
		}
		list = append(list, Scenario{s.name, s.text, parsed})
		all.Script = append(all.Script, parsed...)
	}
	return append(list, all)
}

// Find returns the scenario of the given name. The error names those there are.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q; there are %s", name, and(names))
}

// Outage returns the script of a minute in which payment first fails now and then,
// then altogether, and recovers.
func Outage() Script {
	s, err := Find("outage")
	if err != nil {
		panic(err) // it is in the table above
	}
	return s.Script
}

// Parse reads a script from a list such as "healthy=5s,outage=20s,recovery=15s".
// Phases may be left out and repeated.
func Parse(list string) (Script, error) {
	var s Script
	for item := range strings.SplitSeq(list, ",") {
		name, length, found := strings.Cut(strings.TrimSpace(item), "=")
		if !found {
			return nil, fmt.Errorf("%q is not of the form phase=duration", item)
		}
		p, known := byName(strings.TrimSpace(name))
		if !known {
			return nil, fmt.Errorf("there is no phase %q; there are %s", name, Names())
		}
		d, err := time.ParseDuration(strings.TrimSpace(length))
		if err != nil {
			return nil, fmt.Errorf("%q is not a duration such as 10s", length)
		}
		if d <= 0 {
			return nil, fmt.Errorf("phase %q cannot take %v", p.Name, d)
		}
		p.Length = d
		s = append(s, p)
	}
	if s.Length() <= 0 {
		return nil, errors.New("the phases take longer than can be counted")
	}
	return s, nil
}

func byName(name string) (Phase, bool) {
	for _, p := range phases {
		if p.Name == name {
			return p, true
		}
	}
	return Phase{}, false
}

// Names returns the names of the phases there are, for people.
func Names() string {
	names := make([]string, len(phases))
	for i, p := range phases {
		names[i] = p.Name
	}
	return and(names)
}

// and writes names as people do: a, b and c.
func and(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// Peak returns the highest load of all phases, as a factor.
func (s Script) Peak() float64 {
	peak := 1.0
	for _, p := range s {
		peak = max(peak, p.LoadFactor())
	}
	return peak
}

// Length returns how long all phases take together; negative if that cannot be
// represented.
func (s Script) Length() time.Duration {
	var sum time.Duration
	for _, p := range s {
		if sum += p.Length; sum < 0 {
			return math.MinInt64
		}
	}
	return sum
}

// Scaled returns the script stretched or compressed to the given length. Each phase
// keeps its share. The script must not be empty.
func (s Script) Scaled(length time.Duration) Script {
	factor := float64(length) / float64(s.Length())
	scaled := append(Script(nil), s...)
	var end, was time.Duration
	for i := range scaled {
		// Ends are scaled, not lengths, so that rounding does not add up.
		was += s[i].Length
		scaled[i].Length = time.Duration(math.Round(float64(was)*factor)) - end
		end += scaled[i].Length
	}
	return scaled
}

// Play calls enter at the beginning of each phase and returns when the last one is
// over, or ctx is done: then with its error.
func (s Script) Play(ctx context.Context, enter func(Phase)) error {
	// One timer for the whole script, set anew at each phase, and times counted from
	// the start: what enter takes is not added up.
	timer := time.NewTimer(0)
	defer timer.Stop()
	end := time.Now()
	for _, p := range s {
		if err := ctx.Err(); err != nil {
			return err
		}
		enter(p)
		end = end.Add(p.Length)
		timer.Reset(time.Until(end))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
