package cronspec

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	from := time.Date(2026, 2, 27, 23, 59, 30, 0, time.UTC)
	for spec, want := range map[string]string{
		"* * * * *": "2026-02-28T00:00:00Z", "*/15 3 * * *": "2026-02-28T03:00:00Z", "0 0 29 2 *": "2028-02-29T00:00:00Z",
		"0 12 1 * mon": "2026-03-01T12:00:00Z", "@hourly": "2026-02-28T00:00:00Z", "5/20 * * * *": "2026-02-28T00:05:00Z",
		"@every 90s": "2026-02-28T00:01:00Z", "0 0 30 2 *": "0001-01-01T00:00:00Z",
	} {
		s, err := Parse(spec)
		if err != nil || s.Next(from).Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v, want %s", spec, s.Next(from), err, want)
		}
	}
	for _, bad := range []string{"", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "@never"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*/5 1-3 * jan,mar mon")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		from := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
		if next := s.Next(from); !next.IsZero() && !next.After(from) {
			t.Errorf("%q: %v", text, next)
		}
	})
}
