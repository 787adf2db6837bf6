package report

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/stretchr/testify/require"
)

// terminal is a terminal as far as a Screen needs one: it wraps what is too wide,
// scrolls, and knows the escape sequences that a Screen sends. It fails the test at
// any other.
type terminal struct {
	t             *testing.T
	mu            sync.Mutex // held while it is written to and looked at
	columns, rows int
	lines         [][]rune // all that there ever were; the last rows of them are on the screen
	row, column   int      // of the cursor, row among all lines
	hidden        bool     // the cursor is
	wrapped       bool     // something was too wide
	writes        int
}

func newTerminal(t *testing.T, columns, rows int) *terminal {
	return &terminal{t: t, columns: columns, rows: rows, lines: [][]rune{nil}}
}

func (v *terminal) size() (int, int) { return v.columns, v.rows }

var sequence = regexp.MustCompile(`^\x1b\[(\??)([0-9;]*)([a-zA-Z])`)

func (v *terminal) written() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.writes
}

func (v *terminal) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writes++
	for text := string(p); text != ""; {
		if m := sequence.FindStringSubmatch(text); m != nil {
			v.control(m[1], m[2], m[3])
			text = text[len(m[0]):]
			continue
		}
		for _, r := range text[:1] + strings.SplitN(text[1:], "\x1b", 2)[0] {
			v.char(r)
		}
		if i := strings.Index(text[1:], "\x1b"); i >= 0 {
			text = text[i+1:]
		} else {
			text = ""
		}
	}
	return len(p), nil
}

func (v *terminal) control(private, argument, command string) {
	n, _ := strconv.Atoi(argument)
	switch {
	case private == "" && command == "A":
		require.LessOrEqual(v.t, n, v.row-v.top(), "the cursor would leave the screen")
		v.row -= n
	case private == "" && command == "J" && argument == "":
		v.lines = v.lines[:v.row+1]
		v.lines[v.row] = v.lines[v.row][:min(v.column, len(v.lines[v.row]))]
	case private == "" && command == "m":
	case private == "?" && argument == "25":
		v.hidden = command == "l"
	default:
		require.Fail(v.t, "unknown sequence "+private+argument+command)
	}
}

// top is the row at the top of the screen.
func (v *terminal) top() int { return max(0, len(v.lines)-v.rows) }

func (v *terminal) char(r rune) {
	switch r {
	case '\r':
		v.column = 0
	case '\n':
		v.newline()
	default:
		if v.column == v.columns {
			v.wrapped = true
			v.newline()
		}
		line := v.lines[v.row]
		for len(line) <= v.column {
			line = append(line, ' ')
		}
		line[v.column] = r
		v.lines[v.row] = line
		v.column++
	}
}

func (v *terminal) newline() {
	v.column = 0
	v.row++
	if v.row == len(v.lines) {
		v.lines = append(v.lines, nil)
	}
}

// narrow makes the terminal narrower, as those do that wrap anew what was written.
func (v *terminal) narrow(columns int) {
	var lines [][]rune
	for i, line := range v.lines {
		if i == v.row {
			v.row = len(lines)
		}
		for len(line) > columns {
			lines = append(lines, line[:columns:columns])
			line = line[columns:]
		}
		lines = append(lines, line)
	}
	v.lines, v.columns = lines, columns
}

// text is all that there is, above the screen and on it.
func (v *terminal) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, line := range v.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func TestScreenSequences(t *testing.T) {
	var b bytes.Buffer
	s := NewScreen(&b, func() (int, int) { return 0, 0 })
	take := func() string {
		defer b.Reset()
		return b.String()
	}
	require.NoError(t, s.Close())
	require.Empty(t, take(), "nothing was drawn")
	_, err := s.Write([]byte("one\n"))
	require.NoError(t, err)
	require.Equal(t, "one\n", take())
	require.NoError(t, s.Draw([]string{"a", "b", "c"}))
	require.Equal(t, "\x1b[?25la\nb\nc\r", take())
	require.NoError(t, s.Draw([]string{"d"}))
	require.Equal(t, "\r\x1b[2A\x1b[Jd\r", take())
	_, err = s.Write([]byte("two\nthree\n"))
	require.NoError(t, err)
	require.Equal(t, "\r\x1b[Jtwo\nthree\nd\r", take())
	require.NoError(t, s.Close())
	require.Equal(t, "\r\x1b[J\x1b[?25h", take())
	require.NoError(t, s.Close())
	require.Empty(t, take())
}

// Whatever is written and drawn, what is on the terminal is the text, then the lines.
func TestScreenLeavesNothingBehind(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		line := func() string {
			words := make([]string, r.IntN(12))
			for i := range words {
				words[i] = style{r.IntN(3) == 0}.warn(strings.Repeat("x", 1+r.IntN(30)))
			}
			return strings.Join(words, " ")
		}
		v := newTerminal(t, 20+r.IntN(80), 4+r.IntN(20))
		s := NewScreen(v, v.size)
		var text, drawn []string
		for range 50 {
			writes := v.writes
			if r.IntN(2) == 0 {
				add := line()
				text = append(text, fold(uncoloured(add), v.columns)...)
				_, err := s.Write([]byte(add + "\n"))
				require.NoError(t, err)
			} else {
				lines := make([]string, 1+r.IntN(8))
				drawn = nil
				for i := range lines {
					lines[i] = line()
					if i < v.rows-1 {
						drawn = append(drawn, cut(uncoloured(lines[i]), v.columns-1))
					}
				}
				require.NoError(t, s.Draw(lines))
				require.True(t, v.hidden)
			}
			require.Equal(t, writes+1, v.writes, "one write, so that nothing flickers")
			var want strings.Builder
			for _, l := range append(append([]string(nil), text...), drawn...) {
				want.WriteString(strings.TrimRight(l, " ") + "\n")
			}
			require.Equal(t, strings.TrimRight(want.String(), "\n")+"\n", v.text(), "seed %d", seed)
			require.False(t, v.wrapped)
		}
		require.NoError(t, s.Close())
		require.False(t, v.hidden)
		require.Zero(t, v.column)
	}
}

func TestScreenMadeNarrower(t *testing.T) {
	v := newTerminal(t, 60, 24)
	s := NewScreen(v, v.size)
	_, err := s.Write([]byte("written\n"))
	require.NoError(t, err)
	require.NoError(t, s.Draw([]string{strings.Repeat("a", 59), "b", strings.Repeat("c", 59)}))
	v.narrow(25)
	require.NoError(t, s.Draw([]string{"d", "e"}))
	require.Equal(t, "written\nd\ne\n", v.text())
}

func TestFold(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"", []string{""}},
		{"exactly twenty wide.", []string{"exactly twenty wide."}},
		{"one more than twenty.", []string{"one more than", "twenty."}},
		{"   2.0s  payment  OPEN", []string{"   2.0s  payment", "      OPEN"}},
		{" aaaaaaaaaabbbbbbbbbbcccccccccc", []string{" aaaaaaaaaabbbb", "      bbbbbbcccccccc", "      cc"}},
		{"µµµµµµµµµ µµµµµµµµµ µ", []string{"µµµµµµµµµ µµµµµµµµµ", "µ"}},
		{"a \x1b[33mcolour that goes on and\x1b[0m ends", []string{"a \x1b[33mcolour that goes\x1b[0m", "\x1b[33mon and\x1b[0m ends"}},
		{"\x1b[2m   2.0s\x1b[0m  payment  OPEN", []string{"   \x1b[2m2.0s\x1b[0m  payment", "      OPEN"}},
	} {
		require.Equal(t, c.want, fold(c.line, 20), c.line)
	}
}

func TestCut(t *testing.T) {
	require.Equal(t, "short", cut("short", 5))
	require.Equal(t, "lon…", cut("longer", 4))
	require.Equal(t, "\x1b[1mlon…\x1b[0m", cut("\x1b[1mlonger\x1b[0m", 4))
}

// frames shows a made-up run on a terminal, frame by frame.
func frames(t *testing.T, columns, rows int, colour bool) string {
	var sofar load.Counts
	var alerts []Alert
	v := newTerminal(t, columns, rows)
	s := NewScreen(v, v.size)
	l := NewLog(Config{
		Out: s, Start: start, Colour: colour, Screen: s, Length: time.Minute,
		Orders: func() load.Counts { return sofar },
		Alerts: func() []Alert { return alerts },
	})
	snapshots := map[string]*events.Snapshot{"inventory": {Since: start}, "payment": {Since: start}, "shipping": {Since: start}}
	var b strings.Builder
	show := func(title string) {
		v.wrapped = false
		b.WriteString("[" + title + "]\n" + v.text() + "\n")
		require.False(t, v.wrapped)
	}

	l.Intro(Intro{
		Rate: 40, Length: time.Minute, Attempts: 3, Timeout: 250 * time.Millisecond,
		Opens: 0.5, Window: 8 * time.Second, Slow: 150 * time.Millisecond, SlowAt: 0.8,
		Orders: "http://127.0.0.1:8080/orders", Fault: "http://127.0.0.1:8765/faults/shipping",
	})
	l.phase(Announcement{at(0), script.Phase{Scenario: "outage", Name: "flaky", Text: "one request in five to payment fails", Length: 23 * time.Second}})
	for _, name := range []string{"inventory", "payment", "shipping"} {
		l.event(at(0), events.BreakerCreated{Header: named(name), Time: start, Thresholds: thresholds, Snapshot: func() events.Snapshot { return *snapshots[name] }})
	}
	show("it begins")

	for i := range 4 {
		sofar = orders(10*i, 0, i)
		for name, s := range snapshots {
			s.Totals.Success = uint64(10 * i)
			s.Window = events.Counts{Success: uint64(10 * i)}
			if name == "payment" {
				s.Totals.Failure = uint64(4 * i)
				s.Window.Failure = uint64(4 * i)
			}
			if name == "shipping" {
				s.Window.Slow = uint64(3 * i)
			}
		}
		l.event(time.Time{}, events.RetryFinished{Header: named("payment"), Reason: events.ReasonSuccessAfterRetry})
		l.tick(at(time.Second + time.Duration(i)*frameEvery))
	}
	show("some fail")

	payment := snapshots["payment"]
	*payment = events.Snapshot{
		Since: at(23700 * time.Millisecond), State: events.StateOpen, RetryAfter: 4300 * time.Millisecond,
		Totals: events.Counts{Success: 30, Failure: 40, Rejected: 38},
	}
	l.phase(Announcement{at(23 * time.Second), script.Phase{Scenario: "outage", Name: "outage", Text: "every request to payment fails, and there is nothing that a retry can do about it", Length: 20 * time.Second}})
	l.event(time.Time{}, changes[0])
	alerts = []Alert{{Rule: "CircuitBreakerMostlyNotClosed", About: "payment", Severity: "page", PendingAt: at(24 * time.Second)}}
	sofar = orders(100, 4, 30, 38, 1)
	l.tick(at(24400 * time.Millisecond))
	show("open")

	payment.State, payment.Since = events.StateHalfOpen, at(28700*time.Millisecond)
	payment.ProbesInFlight, payment.Window = 1, events.Counts{Success: 1}
	alerts[0].FiringAt = at(27 * time.Second)
	for i := range 5 {
		alerts = append(alerts, Alert{Rule: fmt.Sprintf("Another%d", i), PendingAt: at(28 * time.Second)})
	}
	l.event(time.Time{}, changes[1])
	l.tick(at(29 * time.Second))
	show("half-open, and six alerts")

	payment.ProbesInFlight, payment.Window = 0, events.Counts{}
	alerts = alerts[:1]
	alerts[0].ResolvedAt = at(30 * time.Second)
	snapshots["shipping"].State, snapshots["shipping"].Forced = events.StateOpen, true
	l.tick(at(30 * time.Second))
	show("half-open, without a call")

	l.closeScreen()
	require.NoError(t, l.Err())
	require.False(t, v.hidden, "the cursor is back")
	show("over")
	return b.String()
}

func TestLiveSummary(t *testing.T) {
	for _, columns := range []int{80, 50, 20} {
		plain := frames(t, columns, 24, false)
		requireGolden(t, fmt.Sprintf("live-%d.txt", columns), plain)
		require.Equal(t, plain, frames(t, columns, 24, true), "colour takes no room")
	}
}

// On a terminal that is too low for it, the live summary is cut, and still is taken
// away whole.
func TestLiveSummaryOnALowTerminal(t *testing.T) {
	text := frames(t, 80, 6, false)
	_, rest, _ := strings.Cut(text, "[open]\n")
	rest, _, _ = strings.Cut(rest, "[half-open, and six alerts]")
	require.NotContains(t, text[strings.Index(text, "[over]"):], " circuit  ", "nothing of it is left")
	require.Contains(t, rest, " circuit")
	require.NotContains(t, rest, " shipping ")
}

func TestFollowDraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTerminal(t, 80, 24)
		s := NewScreen(v, v.size)
		stream := events.NewStream(16)
		l := NewLog(Config{Out: s, Start: time.Now(), Screen: s})
		phases := make(chan Announcement, 1)
		phases <- Announcement{time.Now(), script.Phase{Name: "healthy", Text: "all is well", Length: time.Minute}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Follow(stream, phases)
		}()
		synctest.Wait()
		before := v.written()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, before+8, v.written(), "a few times a second")
		require.Contains(t, v.text(), " 2.0s  healthy, 58s left: all is well")
		stream.Close()
		<-done
		require.False(t, v.hidden)
		require.NotContains(t, v.text(), "left:")
	})
}

func TestScreenThatCannotBeWritten(t *testing.T) {
	broken := &breaking{left: 1}
	s := NewScreen(broken, func() (int, int) { return 80, 24 })
	l := NewLog(Config{Out: s, Start: start, Screen: s})
	l.tick(at(0))
	require.NoError(t, l.Err())
	l.tick(at(frameEvery))
	require.ErrorIs(t, l.Err(), syscall.ENOSPC)
	broken.left = 2
	l.tick(at(2 * frameEvery))
	require.Equal(t, 2, broken.left, "nothing is drawn after an error")
	l.closeScreen()
	require.ErrorIs(t, l.Err(), syscall.ENOSPC)
}
