// Package deps checks what the product may link and which way the rooms may import each
// other. Each rule says why, so that whoever breaks one knows what to do instead.
package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/proa-dev/proa"

// banned packages, by prefix.
var banned = []struct{ prefix, why string }{
	{"k8s.io/kubernetes", "proa is written anew; upstream's code would be repackaging"},
	{"k8s.io/apiserver/pkg/server", "the API server is ours (apiserver/)"},
	{"k8s.io/apiserver/pkg/registry", "the API server is ours (apiserver/)"},
	{"k8s.io/apiserver/pkg/storage", "storage is ours (store/)"},
	{"k8s.io/apiserver/pkg/endpoints", "the API server is ours (apiserver/)"},
	{"k8s.io/apiserver/pkg/admission/plugin", "admission is ours (access/admission/)"},
	{"k8s.io/kube-aggregator/pkg/apiserver", "aggregation is ours (apiserver/)"},
	{"k8s.io/apiextensions-apiserver/pkg/apiserver", "custom resources are ours (apiserver/)"},
	{"k8s.io/kube-scheduler", "the scheduler is ours (scheduler/)"},
	{"k8s.io/controller-manager", "the controllers are ours (controllers/)"},
	{"github.com/k3s-io", "k3s and kine are what proa replaces"},
	{"k8s.io/client-go/informers", "typed informers of every kind there is, some 7 MB; internal/informers has the kinds we read"},
	{"github.com/quic-go", "nothing here speaks QUIC; it comes with CoreDNS's server, which dns/ does not need"},
}

// rooms that may not import each other: components meet through the API alone.
var apart = []string{"scheduler", "controllers", "kubelet", "proxy", "network", "dns"}

// below lists who a room may never import (imports point downwards).
var below = map[string][]string{
	"apis":      {"store", "apiserver", "access", "cluster"},
	"access":    {"store", "apiserver", "cluster"},
	"store":     {"apiserver", "access", "cluster"},
	"apiserver": {"cluster", "scheduler", "controllers", "kubelet", "proxy", "network", "dns"},
	"host":      {"apis", "store", "apiserver", "access", "cluster"},
	"pki":       {"apis", "store", "apiserver", "access", "cluster"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestBanned(t *testing.T) {
	for _, p := range list(t, "-deps", module+"/cmd/proa") {
		for _, b := range banned {
			if strings.HasPrefix(p.ImportPath, b.prefix) {
				t.Errorf("cmd/proa links %s: %s", p.ImportPath, b.why)
			}
		}
	}
}

// TestSize looks at what "make build" made last.
func TestSize(t *testing.T) {
	const most = 110_000_000
	info, err := os.Stat("../../bin/proa")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("not built")
	}
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("bin/proa has %d bytes, more than %d: built by make? docs/decisions/20261121-size-of-the-binary.md says where size comes from", info.Size(), most)
	}
}

func TestRooms(t *testing.T) {
	for _, p := range list(t, module+"/...") {
		from := room(p.ImportPath)
		forbidden := map[string]string{}
		for _, r := range below[from] {
			forbidden[r] = "imports point downwards"
		}
		for _, r := range apart {
			if from != r && contains(apart, from) {
				forbidden[r] = "components meet only through the API"
				forbidden["store"] = "the API server alone talks to the store"
				forbidden["apiserver"] = "components meet only through the API"
			}
		}
		for _, i := range p.Imports {
			if why, bad := forbidden[room(i)]; bad {
				t.Errorf("%s imports %s: %s", p.ImportPath, i, why)
			}
		}
	}
}

// room is the top folder of a package of ours, "" for others.
func room(path string) string {
	rest, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}
