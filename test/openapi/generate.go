//go:build ignore

// Writes testdata/published.json.gz from the documents in the sources of Kubernetes, which the
// nested module test/conformance requires. Run by go generate when that release changes.
//
// The documents are published without the values of enumerated strings, which servers answer
// unless told otherwise; these are taken from the definitions that the servers are built with.
package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	root := strings.TrimSpace(string(out))
	dir := filepath.Join(root, "api", "openapi-spec")
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
	definitions, err := os.ReadFile(filepath.Join(root, "pkg", "generated", "openapi", "zz_generated.openapi.go"))
	if err != nil {
		return err
	}
	addEnums(g, string(definitions))
	packed, err := parity.Pack(g)
	if err != nil {
		return err
	}
	return os.WriteFile("testdata/published.json.gz", packed, 0o644)
}

var (
	function = regexp.MustCompile(`^func schema_(k8sio_api|pkg_apis)_(\w+)_(\w+)_(\w+)\(`)
	property = regexp.MustCompile(`^\t{5}"([^"]+)": \{$`)
	enum     = regexp.MustCompile(`^\t+Enum: +\[\]interface\{\}(\{.*\}),`)
)

// packages are what the names of these functions stand for in names of definitions.
var packages = map[string]string{"k8sio_api": "io.k8s.api.", "pkg_apis": "io.k8s.apiextensions-apiserver.pkg.apis."}

// addEnums adds the enumerated values that Go source of definitions has.
func addEnums(g parity.Golden, source string) {
	var definition, field string
	inside := "" // the keyword below the property that is being described
	for line := range strings.SplitSeq(source, "\n") {
		if m := function.FindStringSubmatch(line); m != nil {
			definition = packages[m[1]] + strings.Join(m[2:], ".")
		} else if m := property.FindStringSubmatch(line); m != nil {
			field, inside = m[1], ""
		} else if strings.Contains(line, "Items: &spec.SchemaOrArray") {
			inside = "items"
		} else if strings.Contains(line, "AdditionalProperties: &spec.SchemaOrBool") {
			inside = "additionalProperties"
		} else if m := enum.FindStringSubmatch(line); m != nil {
			values := parity.Tree{}
			for _, v := range regexp.MustCompile(`"[^"]*"`).FindAllString(m[1], -1) {
				values[strings.Trim(v, `"`)] = true
			}
			set(g.V2["definitions"], definition, field, inside, values)
			for _, doc := range g.V3 {
				if components, ok := doc["components"].(parity.Tree); ok {
					set(components["schemas"], definition, field, inside, values)
				}
			}
		}
	}
}

func set(definitions any, definition, field, inside string, values parity.Tree) {
	at, _ := definitions.(parity.Tree)
	path := []string{definition, "properties", field}
	if inside != "" {
		path = append(path, inside)
	}
	for _, key := range path {
		at, _ = at[key].(parity.Tree)
	}
	if at != nil {
		at["enum"] = values
	}
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
