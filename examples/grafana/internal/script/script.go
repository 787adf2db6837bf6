// Package script holds what happens during a demo, and when: a list of phases, each
// with the faults that services have while it lasts.
package script

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
)

// Phase is one part of a script.
type Phase struct {
	Name   string
	Text   string // what happens in it, for people
	Length time.Duration
	Faults map[string]fault.Fault // by service; a service that is not named has none
}

// Script is a list of phases, played in order.
type Script []Phase

// noise is the fault of a service that is well: nothing is perfect.
var noise = fault.Fault{Share: 0.004, Kinds: []fault.Kind{fault.Error, fault.Cut}}

// well returns the faults of a shop without trouble, but for those given.
func well(payment fault.Fault) map[string]fault.Fault {
	return map[string]fault.Fault{"inventory": noise, "payment": payment, "shipping": noise}
}

// phases are the phases a script is made of, with their lengths in [Outage].
var phases = Script{
	{
		Name: "healthy", Length: 8 * time.Second,
		Text:   "every service is well",
		Faults: well(noise),
	},
	{
		Name: "flaky", Length: 14 * time.Second,
		Text: "one request in five to payment fails",
		Faults: well(fault.Fault{Share: 0.2, Kinds: []fault.Kind{
			fault.Error, fault.Error, fault.Cut, fault.Cut, fault.Hang, fault.Overloaded,
		}}),
	},
	{
		Name: "outage", Length: 20 * time.Second,
		Text:   "every request to payment fails",
		Faults: well(fault.Fault{Share: 1, Kinds: []fault.Kind{fault.Error, fault.Cut, fault.Hang}}),
	},
	{
		Name: "recovery", Length: 18 * time.Second,
		Text:   "payment is well again",
		Faults: well(noise),
	},
}

// Outage returns the script of a minute in which payment first fails now and then,
// then altogether, and recovers.
func Outage() Script { return append(Script(nil), phases...) }

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
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
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
