// Package cronspec reads cron schedules as CronJobs write them and finds their times.
//
// The one idea: each of the five fields is a set of bits; the next time is found by
// moving forward field by field, the largest first.
//
// Used by apis/batch (is it valid?) and controllers/cronjob (when?).
package cronspec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is a parsed schedule.
type Schedule struct {
	minute, hour, day, month, weekday uint64
	anyDay, anyWeekday                bool
	every                             time.Duration // of "@every"; then nothing else is set
}

var names = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
	"@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

var (
	months = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	days   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// Parse reads five fields (minute, hour, day of month, month, day of week), a name such as
// "@daily", or "@every 1h30m".
func Parse(text string) (*Schedule, error) {
	text = strings.TrimSpace(text)
	if period, ok := strings.CutPrefix(text, "@every "); ok {
		d, err := time.ParseDuration(period)
		if err != nil {
			return nil, fmt.Errorf("failed to parse duration %s: %w", text, err)
		}
		return &Schedule{every: max(d.Truncate(time.Second), time.Second)}, nil
	}
	if spec, ok := names[text]; ok {
		text = spec
	} else if strings.HasPrefix(text, "@") {
		return nil, fmt.Errorf("unrecognized descriptor: %s", text)
	}
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return nil, fmt.Errorf("expected exactly 5 fields, found %d: %v", len(fields), fields)
	}
	s := &Schedule{anyDay: open(fields[2]), anyWeekday: open(fields[4])}
	for i, f := range []struct {
		bits     *uint64
		from, to int
		names    []string
	}{{&s.minute, 0, 59, nil}, {&s.hour, 0, 23, nil}, {&s.day, 1, 31, nil}, {&s.month, 1, 12, months}, {&s.weekday, 0, 6, days}} {
		for part := range strings.SplitSeq(fields[i], ",") {
			bits, err := parsePart(part, f.from, f.to, f.names)
			if err != nil {
				return nil, err
			}
			*f.bits |= bits
		}
	}
	return s, nil
}

func open(f string) bool { return strings.HasPrefix(f, "*") || strings.HasPrefix(f, "?") }

// parsePart reads "5", "1-5", "*/15" or "10-50/20".
func parsePart(part string, from, to int, names []string) (uint64, error) {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n <= 0 {
			return 0, fmt.Errorf("step of range should be a positive number: %s", part)
		}
		step = n
	}
	first, last := from, to
	if span != "*" && span != "?" {
		a, b, ranged := strings.Cut(span, "-")
		var err error
		if first, err = number(a, names, from); err != nil {
			return 0, err
		}
		if ranged {
			if last, err = number(b, names, from); err != nil {
				return 0, err
			}
		} else if !stepped {
			last = first
		}
	}
	switch {
	case first < from:
		return 0, fmt.Errorf("beginning of range (%d) below minimum (%d): %s", first, from, part)
	case last > to:
		return 0, fmt.Errorf("end of range (%d) above maximum (%d): %s", last, to, part)
	case first > last:
		return 0, fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", first, last, part)
	}
	var bits uint64
	for i := first; i <= last; i += step {
		bits |= 1 << i
	}
	return bits, nil
}

func number(text string, names []string, from int) (int, error) {
	for i, n := range names {
		if strings.EqualFold(n, text) {
			return i + from, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("failed to parse int from %s", text)
	}
	return n, nil
}

// Next is the first time after t, in t's zone; zero when there is none within five years.
func (s *Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(s.every - time.Duration(t.Nanosecond()))
	}
	limit := t.Year() + 5
	t = t.Truncate(time.Minute).Add(time.Minute)
	for t.Year() <= limit {
		y, m, d := t.Date()
		var next time.Time
		switch {
		case s.month&(1<<int(m)) == 0:
			next = time.Date(y, m+1, 1, 0, 0, 0, 0, t.Location())
		case !s.onDay(t):
			next = time.Date(y, m, d+1, 0, 0, 0, 0, t.Location())
		case s.hour&(1<<t.Hour()) == 0:
			next = t.Add(time.Duration(60-t.Minute()) * time.Minute)
		case s.minute&(1<<t.Minute()) == 0:
			next = t.Add(time.Minute)
		default:
			return t
		}
		if !next.After(t) { // midnight that a change of clocks leaves out
			next = t.Add(time.Hour)
		}
		t = next
	}
	return time.Time{}
}

// onDay holds the rule of cron: with both days restricted, either will do.
func (s *Schedule) onDay(t time.Time) bool {
	day, weekday := s.day&(1<<t.Day()) != 0, s.weekday&(1<<int(t.Weekday())) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
