// Package clients plays what users of kubectl, Helm, curl and the libraries of other languages do against a running
// server, with the real programs. "make clients" prepares them (command run) and starts a server; the tests alone need
// KUBECONFIG and CLIENTS, the folder with the programs, and skip the clients that are not there.
package clients

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proa-dev/proa/test/clients/session"
)

var update = flag.Bool("update", false, "write what the commands give into the transcripts, where it differs")

// TestSessions plays testdata/<client>/*.txt with every version of the client, <client>-<version> in the folder of programs.
func TestSessions(t *testing.T) {
	kubeconfig, programs := os.Getenv("KUBECONFIG"), os.Getenv("CLIENTS")
	if kubeconfig == "" || programs == "" {
		t.Skip("needs KUBECONFIG and CLIENTS: see make clients")
	}
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		client, topic := filepath.Base(filepath.Dir(file)), strings.TrimSuffix(filepath.Base(file), ".txt")
		versions, _ := filepath.Glob(filepath.Join(programs, client+"-*")) // the pattern is sound
		if len(versions) == 0 {
			t.Logf("%s: not in %s", client, programs)
		}
		if *update {
			versions = versions[max(0, len(versions)-1):]
		}
		for _, program := range versions {
			version := strings.TrimPrefix(filepath.Base(program), client+"-")
			t.Run(client+"/"+version+"/"+topic, func(t *testing.T) {
				t.Parallel()
				session.Player{
					Kubeconfig: kubeconfig,
					Namespace:  "clients-" + strings.ReplaceAll(topic+"-"+client+"-"+version, ".", ""),
					Programs:   map[string]string{client: program, "kubectl": kubectl(program, client, programs)},
					Env:        []string{"DATA=" + filepath.Join(data, client)},
					Update:     *update,
				}.Play(t, file)
			})
		}
	}
}

// kubectl is the one that the transcripts of other clients look with: the newest.
func kubectl(program, client, programs string) string {
	if client == "kubectl" {
		return program
	}
	all, _ := filepath.Glob(filepath.Join(programs, "kubectl-*"))
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}
