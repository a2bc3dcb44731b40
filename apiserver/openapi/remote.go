package openapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apiserver/catalog"
)

// remoteTime bounds how long a document waits for another server's part of it.
const remoteTime = 5 * time.Second

// remotePlace is where the index says that the document of another server's group version
// is; the server hands requests there on. ok is false when it has none.
func remotePlace(r *catalog.Remote) (name string, at place, ok bool) {
	if r.SchemaHash == "" {
		return "", place{}, false
	}
	name = "apis/" + r.String()
	return name, place{"/openapi/v3/" + name + "?" + url.Values{"hash": {r.SchemaHash}}.Encode()}, true
}

// remotePart is what another server says of its group version when it is asked, once.
func remotePart(r *catalog.Remote) *part {
	return newPart("", sync.OnceValues(func() (entries, error) {
		if r.Stale || r.Describe == nil {
			return entries{}, fmt.Errorf("%s cannot be asked", r.GroupVersion)
		}
		ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
		defer cancel()
		raw, err := r.Describe(ctx)
		if err != nil {
			return entries{}, fmt.Errorf("ask for %s: %w", r.GroupVersion, err)
		}
		return cut(raw, "/apis/"+r.String())
	}))
}

var definitionRef = regexp.MustCompile(`"#/definitions/([^"]+)"`)

// cut gives what is below a path in a document of version 2, and the definitions it needs.
func cut(raw []byte, below string) (entries, error) {
	var other struct {
		Paths       map[string]json.RawMessage `json:"paths"`
		Definitions map[string]json.RawMessage `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &other); err != nil {
		return entries{}, fmt.Errorf("read an OpenAPI v2 document: %w", err)
	}
	paths, definitions := map[string]spec.PathItem{}, spec.Definitions{}
	var open []string // definitions that are still to be added
	refer := func(raw []byte) {
		for _, m := range definitionRef.FindAllSubmatch(raw, -1) {
			open = append(open, string(m[1]))
		}
	}
	for path, raw := range other.Paths {
		if path != below && !strings.HasPrefix(path, below+"/") {
			continue
		}
		var item spec.PathItem
		if err := json.Unmarshal(raw, &item); err != nil {
			return entries{}, fmt.Errorf("read path %s: %w", path, err)
		}
		paths[path] = item
		refer(raw)
	}
	for len(open) > 0 {
		name := open[len(open)-1]
		open = open[:len(open)-1]
		raw, there := other.Definitions[name]
		if _, done := definitions[name]; done || !there {
			continue
		}
		var s spec.Schema
		if err := json.Unmarshal(raw, &s); err != nil {
			return entries{}, fmt.Errorf("read definition %s: %w", name, err)
		}
		definitions[name] = s
		refer(raw)
	}
	return newEntries(paths, definitions)
}
