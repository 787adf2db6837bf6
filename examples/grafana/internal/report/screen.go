package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Screen is a terminal with a few lines at its end that are drawn anew in place, while
// text written to it scrolls above them. It hides the cursor with the first drawing;
// [Screen.Close] takes the lines away and brings the cursor back.
//
// What it is given has to be made of whole lines. Text that is too wide is folded,
// drawn lines that are too wide are cut, and lines that do not fit the height are left
// out, so that nothing wraps by itself and the place of every line is known. A Screen
// belongs to one goroutine.
type Screen struct {
	out   io.Writer
	size  func() (columns, rows int)
	lines []string // as they were drawn
	shown bool     // something was, so that the cursor is hidden
}

// NewScreen returns a screen on a terminal. Size is asked each time something is
// written; what is not positive counts as 80 columns and 24 rows.
func NewScreen(out io.Writer, size func() (columns, rows int)) *Screen {
	return &Screen{out: out, size: size}
}

// ShowCursor is what a terminal is sent to show its cursor.
const ShowCursor = "\x1b[?25h"

const (
	hideCursor = "\x1b[?25l"
	eraseBelow = "\x1b[J" // from the cursor to the end of the screen
)

// The least that is drawn on: narrower and lower terminals show what they can.
const (
	leastColumns = 20
	leastRows    = 4
)

func (s *Screen) columns() int { c, _ := s.area(); return c }

func (s *Screen) area() (columns, rows int) {
	columns, rows = s.size()
	if columns <= 0 {
		columns = width
	}
	if rows <= 0 {
		rows = 24
	}
	return max(columns, leastColumns), max(rows, leastRows)
}

// Write writes lines above those that are drawn.
func (s *Screen) Write(text []byte) (int, error) {
	columns, _ := s.area()
	var b strings.Builder
	b.WriteString(s.erase(columns))
	for line := range strings.Lines(string(text)) {
		for _, part := range fold(strings.TrimSuffix(line, "\n"), columns) {
			b.WriteString(part + "\n")
		}
	}
	b.WriteString(strings.Join(s.lines, "\n"))
	if len(s.lines) > 0 {
		b.WriteByte('\r')
	}
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Draw draws lines in place of those drawn before.
func (s *Screen) Draw(lines []string) error {
	columns, rows := s.area()
	text := s.erase(columns)
	if !s.shown {
		text, s.shown = hideCursor+text, true
	}
	s.lines = s.lines[:0]
	for _, line := range lines[:min(len(lines), rows-1)] {
		s.lines = append(s.lines, cut(line, columns-1)) // the last column makes some terminals wrap
	}
	_, err := io.WriteString(s.out, text+strings.Join(s.lines, "\n")+"\r")
	return err
}

// Close takes the drawn lines away and shows the cursor.
func (s *Screen) Close() error {
	if !s.shown {
		return nil
	}
	text := s.erase(s.columns()) + ShowCursor
	s.lines, s.shown = nil, false
	_, err := io.WriteString(s.out, text)
	return err
}

// erase returns what takes the drawn lines away and leaves the cursor where they
// began. It is at the beginning of the last of them, wherever that is now: a terminal
// that was made narrower has wrapped those above it.
func (s *Screen) erase(columns int) string {
	if len(s.lines) == 0 {
		return ""
	}
	var above int
	for _, line := range s.lines[:len(s.lines)-1] {
		above += max(1, (cells(line)+columns-1)/columns)
	}
	if above == 0 {
		return "\r" + eraseBelow
	}
	return fmt.Sprintf("\r\x1b[%dA", above) + eraseBelow
}

// pieces splits text into characters and, apart from them, the escape sequences that
// colour it.
func pieces(text string, char func(r rune), code func(string)) {
	for len(text) > 0 {
		if strings.HasPrefix(text, "\x1b[") {
			if end := strings.IndexByte(text, 'm'); end > 0 {
				code(text[:end+1])
				text = text[end+1:]
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(text)
		char(r)
		text = text[size:]
	}
}

// cells returns how many columns a line takes. All that is written here is one column
// wide a character.
func cells(line string) int {
	var n int
	pieces(line, func(rune) { n++ }, func(string) {})
	return n
}

// cut shortens a line to a number of columns, and says so with an ellipsis.
func cut(line string, columns int) string {
	if cells(line) <= columns {
		return line
	}
	var b strings.Builder
	var n int
	pieces(line, func(r rune) {
		if n++; n < columns {
			b.WriteRune(r)
		} else if n == columns {
			b.WriteRune('…')
		}
	}, func(code string) { b.WriteString(code) })
	return b.String()
}

// hanging is how far a folded line is indented from its second part on if it was
// itself: it is where the log's lines begin after their time.
const hanging = 9

// fold breaks a line that is too wide between words, or within one that alone is.
func fold(line string, columns int) []string {
	if cells(line) <= columns {
		return []string{line}
	}
	indent := 0
	if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\x1b[2m ") {
		indent = min(hanging, columns/3)
	}
	var parts []string
	var part, word strings.Builder
	var inPart, inWord int  // columns
	var gap int             // spaces between the two
	var begun bool          // there is a word in part
	var active, ends string // the colour that a part ends in
	flushPart := func() {
		if active != "" {
			part.WriteString("\x1b[0m")
		}
		parts = append(parts, part.String())
		part.Reset()
		part.WriteString(strings.Repeat(" ", indent) + active)
		inPart, gap, begun = indent, 0, false
	}
	flushWord := func() {
		if inWord > 0 && begun && inPart+gap+inWord > columns {
			flushPart()
		}
		part.WriteString(strings.Repeat(" ", gap) + word.String())
		begun = begun || inWord > 0
		inPart, gap, inWord, active = inPart+gap+inWord, 0, 0, ends
		word.Reset()
	}
	pieces(line, func(r rune) {
		if r == ' ' {
			if inWord > 0 {
				flushWord()
			}
			gap++
			return
		}
		if inWord == columns-indent {
			flushWord()
		}
		word.WriteRune(r)
		inWord++
	}, func(code string) {
		word.WriteString(code)
		if ends = code; code == "\x1b[0m" {
			ends = ""
		}
	})
	flushWord()
	return append(parts, part.String())
}
