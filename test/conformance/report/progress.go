package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Progress reads what ginkgo writes while it runs, and tells how far it is.
//
// Ginkgo writes a dot for each spec that has ended; for one that failed or was slow a line
// "• [FAILED] [5.2 seconds]" and its name in the next line.
type Progress struct {
	Out   io.Writer
	Every time.Duration // between lines that tell of no failure

	total, done, failed int
	start, told         time.Time
}

// Follow reads until the end. It never stops earlier: who writes would block.
func (p *Progress) Follow(r io.Reader) error {
	p.start, p.told = time.Now(), time.Now()
	in := bufio.NewReader(r)
	for {
		err := p.line(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

const dot = '•'

// line takes one line. Dots are counted as they come: theirs ends much later.
func (p *Progress) line(in *bufio.Reader) error {
	dots := 0
	for {
		c, _, err := in.ReadRune()
		if err != nil || c == '\n' {
			p.passed(min(dots, 1))
			return err
		}
		if c != dot {
			if err := in.UnreadRune(); err != nil {
				return err
			}
			break
		}
		if dots++; dots > 1 { // the one before was a dot alone
			p.passed(1)
		}
	}
	rest, err := in.ReadString('\n')
	rest = strings.TrimSpace(rest)
	switch {
	case dots == 0:
		p.announced(rest)
	case strings.HasPrefix(rest, "[") && !isTime(rest):
		name, nameErr := in.ReadString('\n')
		p.failure(rest, strings.TrimSpace(name))
		err = cmp.Or(err, nameErr)
	default:
		p.passed(1)
	}
	return err
}

// isTime tells "[12.3 seconds]", of a slow spec that passed, from "[FAILED] [12.3 seconds]".
func isTime(text string) bool {
	return strings.HasSuffix(text, " seconds]") && strings.Count(text, "[") == 1
}

// announced learns how many specs there are: "Will run 7 of 3206 specs".
func (p *Progress) announced(line string) {
	f := strings.Fields(line)
	if len(f) == 6 && f[0] == "Will" && f[1] == "run" && f[5] == "specs" {
		if n, err := strconv.Atoi(f[2]); err == nil {
			p.total = n
		}
	}
}

func (p *Progress) passed(n int) {
	p.done += n
	if n > 0 && (time.Since(p.told) >= p.Every || p.done == p.total) {
		p.tell("")
	}
}

func (p *Progress) failure(outcome, name string) {
	p.done++
	p.failed++
	p.tell(strings.TrimPrefix(strings.SplitAfter(outcome, "]")[0], " ") + " " + name)
}

func (p *Progress) tell(what string) {
	p.told = time.Now()
	left := max(0, p.total-p.done)
	estimate := time.Since(p.start) / time.Duration(max(1, p.done)) * time.Duration(left)
	line := fmt.Sprintf("%s  %d done, %d failed, %d left, about %s", time.Now().Format(time.TimeOnly), p.done, p.failed, left, estimate.Round(time.Second))
	fmt.Fprintln(p.Out, strings.TrimSpace(line+"  "+what))
}
