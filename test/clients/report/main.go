// Command report makes a table of what 'go test -json' says: one line a client and version, then what failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// event is a line of test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type row struct {
	passed, failed, skipped int
	seconds                 float64
}

func main() {
	if err := report(); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report() error {
	rows, output, failed := map[string]*row{}, map[string]string{}, []string{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue // what a build says, or of a package as a whole
		}
		key := path.Base(e.Package) + " " + e.Test
		switch output[key] += e.Output; e.Action {
		case "pass", "fail", "skip":
			count(rows, name(e), e)
			if e.Action == "fail" {
				failed = append(failed, output[key])
			}
		}
	}
	fmt.Printf("%-24s %7s %7s %8s\n", "client", "passed", "failed", "seconds")
	for _, n := range slices.Sorted(maps.Keys(rows)) {
		fmt.Printf("%-24s %7d %7d %8.1f\n", n, rows[n].passed, rows[n].failed, rows[n].seconds)
	}
	fmt.Print(strings.Join(failed, ""))
	return lines.Err()
}

// name is that of the client, with its version: of a transcript it is in the test's name, otherwise the package.
func name(e event) string {
	if parts := strings.Split(e.Test, "/"); parts[0] == "TestSessions" {
		if len(parts) < 4 {
			return "" // those that hold others
		}
		return parts[1] + " " + parts[2]
	}
	return path.Base(e.Package)
}

func count(rows map[string]*row, n string, e event) {
	if n == "" {
		return
	}
	if rows[n] == nil {
		rows[n] = &row{}
	}
	r := rows[n]
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
	default:
		r.skipped++
	}
	r.seconds += e.Elapsed
}
