//go:build ignore

// Writes testdata/published.json.gz from the documents in the sources of Kubernetes, which the
// nested module test/conformance requires. Run by go generate when that release changes.
package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	parity "github.com/proa-dev/proa/test/openapi"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	list.Dir = "../conformance"
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("find the sources: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "api", "openapi-spec")
	g := parity.Golden{V3: map[string]parity.Tree{}}
	if g.V2, err = read(filepath.Join(dir, "swagger.json")); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "v3", "*_openapi.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), "_openapi.json"), "__", "/")
		if g.V3[name], err = read(file); err != nil {
			return err
		}
	}
	packed, err := parity.Pack(g)
	if err != nil {
		return err
	}
	return os.WriteFile("testdata/published.json.gz", packed, 0o644)
}

func read(file string) (parity.Tree, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	tree, err := parity.Read(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tree, nil
}
