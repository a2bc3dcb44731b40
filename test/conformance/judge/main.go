// Command judge says what Kubernetes makes of an object: the defaults it gets, the errors and
// warnings it is answered with. The tables below apis/ are filled in by it:
//
//	cd test/conformance && go build -o /tmp/judge ./judge
//	go test ./apis -run Tables -judge /tmp/judge
//
// It reads one JSON request a line and answers with one line each.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/capabilities"
)

// request is a create (Old is empty) or an update, through the subresource Sub if there is one.
type request struct {
	Object json.RawMessage `json:"object"`
	Old    json.RawMessage `json:"old,omitempty"`
	Sub    string          `json:"sub,omitempty"`
	// DefaultsOnly asks for the object with its defaults, nothing else.
	DefaultsOnly bool `json:"defaultsOnly,omitempty"`
}

type answer struct {
	Object   json.RawMessage `json:"object,omitempty"`
	Errors   []string        `json:"errors,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Fault    string          `json:"fault,omitempty"` // the request could not be judged
}

func main() {
	klog.SetLogger(logr.Discard())
	capabilities.Setup(true, 0) // privileged containers may be asked for
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		a, err := judge(r)
		if err != nil {
			a = answer{Fault: err.Error()}
		}
		if err := out.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return lines.Err()
}
