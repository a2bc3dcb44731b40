package openapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
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

// mergeRemote adds other servers' paths, and the definitions these need, to the document of
// version 2. Where both have a definition of one name, this server's stays. A server that
// does not answer is left out.
func mergeRemote(doc *spec.Swagger, remote []catalog.Remote) {
	for i := range remote {
		r := &remote[i]
		if r.Stale || r.Describe == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
		raw, err := r.Describe(ctx)
		cancel()
		if err == nil {
			_ = mergeDocument(doc, raw, "/apis/"+r.String()) // what cannot be read is left out
		}
	}
}

var definitionRef = regexp.MustCompile(`"#/definitions/([^"]+)"`)

// mergeDocument adds what is below a path, all of it or nothing.
func mergeDocument(doc *spec.Swagger, raw []byte, below string) error {
	var other struct {
		Paths       map[string]json.RawMessage `json:"paths"`
		Definitions map[string]json.RawMessage `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &other); err != nil {
		return fmt.Errorf("read an OpenAPI v2 document: %w", err)
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
			return fmt.Errorf("read path %s: %w", path, err)
		}
		paths[path] = item
		refer(raw)
	}
	for len(open) > 0 {
		name := open[len(open)-1]
		open = open[:len(open)-1]
		raw, there := other.Definitions[name]
		_, ours := doc.Definitions[name]
		if _, done := definitions[name]; done || ours || !there {
			continue
		}
		var s spec.Schema
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read definition %s: %w", name, err)
		}
		definitions[name] = s
		refer(raw)
	}
	for path, item := range paths {
		doc.Paths.Paths[path] = item
	}
	for name, s := range definitions {
		doc.Definitions[name] = s
	}
	return nil
}
