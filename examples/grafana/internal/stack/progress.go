// Package stack runs the stack of docker-compose.yml, with or without containers, puts
// it through an outage, and checks what comes out at the other end.
package stack

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress tells people how far it has come, with times.
type Progress struct {
	out   io.Writer
	start time.Time

	mu sync.Mutex // held while a line is written
}

// NewProgress returns one that writes to out and counts from now.
func NewProgress(out io.Writer) *Progress { return &Progress{out: out, start: time.Now()} }

// Elapsed is how long it has been going on.
func (p *Progress) Elapsed() time.Duration { return time.Since(p.start) }

// Title begins a section.
func (p *Progress) Title(format string, args ...any) { p.line("\n", "== "+format, args...) }

// Say writes a line.
func (p *Progress) Say(format string, args ...any) { p.line("", "   "+format, args...) }

// Done writes a line about something that holds.
func (p *Progress) Done(format string, args ...any) { p.line("", "ok "+format, args...) }

func (p *Progress) line(before, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, before+"%6.1fs "+format+"\n", append([]any{p.Elapsed().Seconds()}, args...)...)
}

// Begin says that something begins that may take long, and repeats that it goes on
// until the function it returns is called.
func (p *Progress) Begin(format string, args ...any) (end func()) {
	what := fmt.Sprintf(format, args...)
	p.Say("%s", what)
	begun, stop, stopped := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.Say("... %s, for %.0f s now", what, time.Since(begun).Seconds())
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		p.Say("%s took %.1f s", what, time.Since(begun).Seconds())
	}
}
