// Package session plays transcripts: text files of shell commands with the output that each must have.
//
// The one idea: what a client does is written down as a user sees it on the screen, so that a transcript is a table, a
// test and documentation, and the same one is played with every version of a client.
//
//	# a comment
//	$ kubectl create configmap c --from-file=- <<E
//	> a line more of the command
//	> E
//	configmap/c created
//	? 1
//
// A block ends with an empty line. Output is what comes on both streams; empty lines and the width of space in it do not
// count, * stands for anything within a line, a line ... for any lines, $NS for the namespace of the run, and "? n" for an
// exit code other than 0. Commands of one transcript share nothing but the folder that they run in.
package session

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Step is one command of a transcript.
type Step struct {
	Comment []string // lines before it, as they are
	Command string   // may have several lines
	Want    []string // lines of output, as they are in the file
	Exit    int
	Line    int // of the command in the file, from 1
}

// Parse reads a transcript.
func Parse(file string) ([]Step, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var steps []Step
	var comment []string
	inside := false
	for n, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n") {
		switch last := len(steps) - 1; {
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, Step{Comment: comment, Command: line[2:], Line: n + 1})
			comment, inside = nil, true
		case !inside:
			comment = append(comment, line)
		case line == "":
			inside = false
		case len(steps[last].Want) == 0 && (line == ">" || strings.HasPrefix(line, "> ")):
			steps[last].Command += "\n" + strings.TrimPrefix(strings.TrimPrefix(line, ">"), " ")
		case strings.HasPrefix(line, "? "):
			if steps[last].Exit, err = strconv.Atoi(line[2:]); err != nil {
				return nil, fmt.Errorf("%s:%d: exit code: %w", file, n+1, err)
			}
		default:
			steps[last].Want = append(steps[last].Want, line)
		}
	}
	return steps, nil
}

// Write is the opposite of Parse.
func Write(file string, steps []Step) error {
	var b strings.Builder
	for i, s := range steps {
		for _, c := range s.Comment {
			b.WriteString(c + "\n")
		}
		b.WriteString("$ " + strings.ReplaceAll(s.Command, "\n", "\n> ") + "\n")
		for _, w := range s.Want {
			b.WriteString(w + "\n")
		}
		if s.Exit != 0 {
			fmt.Fprintf(&b, "? %d\n", s.Exit)
		}
		if i < len(steps)-1 {
			b.WriteString("\n")
		}
	}
	return os.WriteFile(file, []byte(strings.ReplaceAll(b.String(), "> \n", ">\n")), 0o644)
}

// Match says whether the output is what the step wants.
func (s Step) Match(output, namespace string) bool {
	pattern := `(?s)\A`
	for _, want := range s.Want {
		if want == "..." {
			pattern += `.*`
			continue
		}
		line := regexp.QuoteMeta(strings.ReplaceAll(squeeze(want), "$NS", namespace))
		pattern += strings.ReplaceAll(line, `\*`, `[^\n]*`) + `\n`
	}
	re, err := regexp.Compile(pattern + `\z`)
	return err == nil && re.MatchString(clean(output))
}

// clean is output as it is compared: no empty lines, single spaces.
func clean(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if line = squeeze(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func squeeze(line string) string { return strings.Join(strings.Fields(line), " ") }

var changing = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|\b[\w,]{3} \d\d \w{3} \d{4} [\d:]{8} [+-]\d{4}`)
var age = regexp.MustCompile(`(^|\s)(\d+[smhd])+(\s|$)`)
var version = regexp.MustCompile(`(resourceVersion"?: "?)\d+`)

// Record is the output as a step would want it: what differs from run to run is *.
func Record(output, namespace string) []string {
	var want []string
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \n")
		if line == "" {
			continue
		}
		line = changing.ReplaceAllString(strings.ReplaceAll(line, namespace, "$NS"), "*")
		line = version.ReplaceAllString(age.ReplaceAllString(line, "${1}*${3}"), "${1}*")
		want = append(want, line)
	}
	return want
}
