// Package wire compares what this server answers with what Kubernetes answers, byte for
// byte as far as clients can tell.
//
// The one idea: a case is a YAML file of requests whose answers were recorded from a
// kube-apiserver of the release that this server stands for, after what rightly varies was
// replaced by placeholders (see Names). The test sends the same requests to a control plane
// in its own process and must get the same answers.
//
//	go test ./test/wire                                       replay all cases
//	go test ./test/wire -run Wire/protocol/create             some of them
//	go test ./test/wire -run Wire/x/y -record kubeconfig      write the answers into the files
//	go test ./test/wire -server kubeconfig                    replay against any server
//
// A kubeconfig must have the users admin (of system:masters) and alice (of the group dev,
// without rights), with tokens. The server should run no controllers: the control plane of the
// test runs none either, so that only what the API itself does is compared. A new case needs no
// answers; they are recorded.
//
// A file:
//
//	about: what is looked at
//	alone: true                   # optional: changes what other cases see; runs before them
//	steps:
//	- do: POST /api/v1/namespaces/{ns}/configmaps?fieldManager=me
//	  as: alice                   # default admin; anonymous
//	  headers: {Accept: application/yaml}
//	  type: application/json      # of the body, this by default
//	  body: {...}                 # YAML, sent as JSON; or a text, sent as it is
//	  until: 201                  # asks again, for ten seconds, until the answer has this code
//	  has: status.conditions      # asks again until the answer has this
//	  always: true                # done even when recording failed before it: cleans up
//	  keep: {name: metadata.name} # values of the answer that have a placeholder {name} from here on
//	  show: [metadata, spec.x]    # all of the body that is compared
//	  ignore: [metadata.uid]      # what is not
//	  lines: ^# TYPE              # of a text: the lines that are compared
//	  differs: why                # the answer is known to differ (docs/differences.md)
//	  want: {code: 201, headers: {...}, body: {...}}
//	- watch: GET /api/v1/...?watch=true   # is open from here on, and called
//	  name: w
//	- events: w                   # all that come from it until it is quiet; end: it was closed
//	  want: {events: [...], end: true}
//	- asked: /deny                # what the backend was asked at a path, since it was looked at last
//
// A case may have a backend: an HTTPS server that webhooks and API services are pointed to.
// Its address is {backend}, its CA {backendca}, in base64, its port {backendport}:
//
//	backend:
//	  /agree: {}                                              # a review, which agrees or converts
//	  /deny: {review: {response: {allowed: false}}}           # merged into that; null removes
//	  /label: {patch: [{op: add, path: /data/x, value: y}]}
//	  /odd: {code: 500, text: hello, after: 1s}               # or body: JSON, echo: true
//
// Each case has a namespace of its own, {ns}, with the service account default; names of
// cluster-scoped objects should begin with {ns} too. In requests {x*300} is the letter x, 300
// times. Headers that every answer has (ordinary, in answer.go) are written when they are
// missing ("") or otherwise alone.
package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Case is a file.
type Case struct {
	About string
	Alone bool
	Steps []Step

	Backend map[string]Reply // by path; nil: there is none

	Name string    `yaml:"-"` // area/name
	path string    // of the file
	doc  yaml.Node // the file as it was read
}

// Step is one request, or what is done with a watch.
type Step struct {
	Do, Watch, Events string
	Asked             string // a path of the backend
	Name              string // of a watch; of another step, for readers
	As, Type          string
	Headers           map[string]string
	Body              any
	Until             int
	Has               string
	Always            bool
	Keep              map[string]string
	Show, Ignore      []string
	Lines             string
	Differs           string
	Want              *Answer
}

// Load reads all cases below a folder.
func Load(root string) ([]*Case, error) {
	files, err := filepath.Glob(filepath.Join(root, "*", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []*Case
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return nil, err
		}
		c := &Case{path: path, Name: strings.TrimSuffix(filepath.ToSlash(rel), ".yaml")}
		if err := yaml.Unmarshal(raw, &c.doc); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := c.doc.Decode(c); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for i, s := range c.Steps {
			if n := len(strings.Fields(s.Do + " " + s.Watch)); n != 2 && s.Events+s.Asked == "" {
				return nil, fmt.Errorf("%s: step %d needs a method and a path", path, i+1)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// title tells a step in a report.
func (s *Step) title(i int) string {
	for _, text := range []string{s.Do, s.Watch} {
		if text != "" {
			return fmt.Sprintf("step %d %s %s", i+1, s.Name, text)
		}
	}
	if s.Asked != "" {
		return fmt.Sprintf("step %d: asked at %s", i+1, s.Asked)
	}
	return fmt.Sprintf("step %d: events of %s", i+1, s.Events)
}
