package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/proa-dev/proa/test/conformance/report"
)

// maxRuns is how many runs are kept.
const maxRuns = 10

// resultsDir makes the folder of this run, named by the time, and removes old ones.
func resultsDir(out string) (string, error) {
	dir := filepath.Join(out, "runs", time.Now().UTC().Format("20060102-150405"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(out, "runs", "*"))
	if err != nil {
		return "", err
	}
	for _, run := range old[:max(0, len(old)-maxRuns)] { // sorted by name, so by time
		if err := os.RemoveAll(run); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// lastFailed is a regular expression for the specs that failed in the newest run.
func lastFailed(out string) (string, error) {
	runs, err := filepath.Glob(filepath.Join(out, "runs", "*"))
	if err != nil {
		return "", err
	}
	if len(runs) == 0 {
		return "", errors.New("there is no earlier run")
	}
	reports, err := filepath.Glob(filepath.Join(runs[len(runs)-1], "*.json"))
	if err != nil {
		return "", err
	}
	var names []string
	for _, file := range reports {
		specs, err := readReport(file)
		if err != nil {
			return "", err
		}
		for _, s := range report.Failed(specs) {
			names = append(names, regexp.QuoteMeta(s.Name))
		}
	}
	if len(names) == 0 {
		return "", errors.New("nothing failed in the last run")
	}
	return strings.Join(names, "|"), nil
}

// readReport gives the specs of a report that ginkgo wrote.
func readReport(file string) ([]report.Spec, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	specs, err := report.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return specs, nil
}
