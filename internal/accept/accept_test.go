package accept

import (
	"slices"
	"strings"
	"testing"
)

func TestWishes(t *testing.T) {
	for header, want := range map[string]string{
		"":                         "",
		"a/b":                      "a/b",
		"a/b, c/d;x=y":             "a/b c/d",
		"a/b;q=0.5,c/d":            "c/d a/b",
		"a/b; q=0.5, c/d; q=0.9":   "c/d a/b",
		"*/*,a/*,a/b":              "a/b a/* */*",
		"*/*;q=1,a/b;q=0.1":        "*/* a/b",
		"a/b;q=x,c/d":              "a/b c/d",
		"nonsense;;,a/b;q=0,c/d":   "c/d a/b",
		"a/b;q=0.5,c/d;q=0.5,e/f":  "e/f a/b c/d",
		",,a/b,":                   "a/b",
		"a/b;q=NaN,c/d;q=0.5,e/f;": "e/f c/d a/b",
	} {
		var got []string
		for w := range Wishes(header) {
			got = append(got, w.Media)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", header, got, want)
		}
	}
}

func FuzzWishes(f *testing.F) {
	f.Add("a/b;q=0.5, */*;q=nan, c/d;x=\"y\"")
	f.Fuzz(func(t *testing.T, header string) {
		if n := len(slices.Collect(Wishes(header))); n > strings.Count(header, ",")+1 {
			t.Errorf("%d wishes", n)
		}
	})
}
