// Package report turns what ginkgo says about a run into a table that people read.
//
// The one idea: the JSON report of ginkgo is the only source; several runs (parallel, then
// serial) are one list of specs. Used by the kit's program.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// Spec is the outcome of one spec that ran.
type Spec struct {
	Name    string // with all containers around it: "[sig-node] Pods should ..."
	SIG     string // "node"; "suite" for what runs around the specs
	Passed  bool
	Failure string // first line of what went wrong
	Took    time.Duration
}

// Read gives the specs of a JSON report of ginkgo; those that were skipped are left out.
func Read(r io.Reader) ([]Spec, error) {
	var reports []types.Report
	if err := json.NewDecoder(r).Decode(&reports); err != nil {
		return nil, fmt.Errorf("read ginkgo's report: %w", err)
	}
	var all []Spec
	for _, report := range reports {
		for _, s := range report.SpecReports {
			if s.State.Is(types.SpecStateSkipped|types.SpecStatePending|types.SpecStateInvalid) ||
				!s.LeafNodeType.Is(types.NodeTypeIt) && !s.Failed() {
				continue
			}
			all = append(all, outcome(s))
		}
	}
	return all, nil
}

func outcome(s types.SpecReport) Spec {
	spec := Spec{Name: s.FullText(), SIG: sig(s.FullText()), Passed: s.State.Is(types.SpecStatePassed), Took: s.RunTime}
	if !s.LeafNodeType.Is(types.NodeTypeIt) {
		spec.Name, spec.SIG = s.LeafNodeType.String(), "suite"
	}
	if !spec.Passed {
		spec.Failure = firstLine(s.Failure.Message)
		if spec.Failure == "" {
			spec.Failure = s.State.String()
		}
	}
	return spec
}

var sigTag = regexp.MustCompile(`\[sig-([a-z-]+)\]`)

func sig(name string) string {
	if m := sigTag.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return "none"
}

// maxLine bounds a failure's line.
const maxLine = 300

// firstLine is the first line that says something: gomega begins with "Expected" or "Timed
// out" and tells what was expected lines later.
func firstLine(message string) string {
	lines := strings.FieldsFunc(message, func(r rune) bool { return r == '\n' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	if len(lines) == 0 {
		return ""
	}
	text := lines[0]
	if strings.HasSuffix(text, ":") || text == "Expected" || strings.HasPrefix(text, "Timed out after") {
		text = strings.Join(lines[:min(len(lines), 4)], " ")
	}
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "..."
	}
	return text
}

// Failed gives the specs that did not pass, by name.
func Failed(all []Spec) []Spec {
	failed := slices.DeleteFunc(slices.Clone(all), func(s Spec) bool { return s.Passed })
	slices.SortFunc(failed, func(a, b Spec) int { return cmp.Compare(a.Name, b.Name) })
	return failed
}

// Table writes the outcome by SIG and a line for each failure, as markdown.
func Table(w io.Writer, all []Spec) error {
	type row struct {
		ran, passed int
		took        time.Duration
	}
	rows := map[string]*row{}
	var sum row
	for _, s := range all {
		r := rows[s.SIG]
		if r == nil {
			r = &row{}
			rows[s.SIG] = r
		}
		for _, r := range []*row{r, &sum} {
			r.ran++
			r.took += s.Took
			if s.Passed {
				r.passed++
			}
		}
	}
	var text strings.Builder
	text.WriteString("| SIG | specs | passed | failed | time of the specs |\n|---|---:|---:|---:|---:|\n")
	line := func(name string, r *row) {
		fmt.Fprintf(&text, "| %s | %d | %d | %d | %s |\n", name, r.ran, r.passed, r.ran-r.passed, r.took.Round(time.Second))
	}
	names := make([]string, 0, len(rows))
	for name := range rows {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line(name, rows[name])
	}
	line("**all**", &sum)
	if failed := Failed(all); len(failed) > 0 {
		text.WriteString("\nFailed:\n\n")
		for _, s := range failed {
			fmt.Fprintf(&text, "- %s\n  `%s`\n", s.Name, strings.ReplaceAll(s.Failure, "`", "'"))
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
