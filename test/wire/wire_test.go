package wire

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/proa-dev/proa/cluster"
)

var (
	record = flag.String("record", "", "kubeconfig of a kube-apiserver whose answers are written into the cases")
	other  = flag.String("server", "", "kubeconfig of a server that is asked in place of the own one")
)

// TestWire sends each case's requests and holds the answers against those of Kubernetes.
func TestWire(t *testing.T) {
	cases, err := Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	server := own(t)
	for _, alone := range []bool{true, false} {
		for _, c := range cases {
			if c.Alone != alone {
				continue
			}
			t.Run(c.Name, func(t *testing.T) {
				if !alone && *record == "" {
					t.Parallel()
				}
				play(t, server, c)
			})
		}
	}
}

func own(t *testing.T) *Server {
	t.Helper()
	for _, given := range []string{*record, *other} {
		if given == "" {
			continue
		}
		s, err := Remote(given)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	api, err := cluster.StartAPI(context.Background(), cluster.ServerConfig{
		Place:       &cluster.Place{Name: "wire", Roots: cluster.Roots{Data: dir + "/data", Run: dir + "/run", Config: dir + "/etc"}},
		BindAddress: netip.MustParseAddr("127.0.0.1"), AdvertiseAddress: netip.MustParseAddr("192.0.2.2"),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), ClusterCIDR: netip.MustParsePrefix("10.97.0.0/16"),
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	users := map[string]*tls.Certificate{"anonymous": nil}
	for name, group := range map[string]string{"admin": "system:masters", "alice": "dev"} {
		if users[name], err = api.Certificate(name, group); err != nil {
			t.Fatal(err)
		}
	}
	server := WithCertificates(api.URL, users)
	classified(t, server)
	return server
}

// classified waits until the default flow schemas are stored, a moment after the start.
func classified(t *testing.T, s *Server) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.Users["admin"].RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("X-Kubernetes-Pf-Flowschema-Uid") != "" {
			return
		}
	}
	t.Fatal("requests are not classified")
}

func play(t *testing.T, server *Server, c *Case) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	run, err := Begin(ctx, server, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := run.End(ctx); err != nil {
			t.Error(err)
		}
	}()
	for i := range c.Steps {
		s := &c.Steps[i]
		if t.Failed() && *record != "" && !s.Always {
			continue
		}
		if *record != "" {
			s.Want = nil
		}
		got, err := run.Step(ctx, s)
		if err != nil {
			t.Errorf("%s: %v", s.title(i), err)
			continue
		}
		if *record == "" {
			judge(t, s, i, got)
		} else if err := c.Record(i, got); err != nil {
			t.Fatal(err)
		}
	}
	if *record != "" && !t.Failed() {
		if err := c.Save(); err != nil {
			t.Fatal(err)
		}
	}
}

// judge compares one answer.
func judge(t *testing.T, s *Step, i int, got *Answer) {
	const shown = 12
	if s.Want == nil {
		t.Errorf("%s: no answer was recorded", s.title(i))
		return
	}
	list, err := Differences(got, s.Want)
	if err != nil {
		t.Fatal(err)
	}
	if s.Differs != "" {
		if len(list) == 0 {
			t.Errorf("%s: differs no more", s.title(i))
		}
		return
	}
	var text strings.Builder
	for n, d := range list {
		if n == shown {
			fmt.Fprintf(&text, "\n\tand %d more", len(list)-shown)
			break
		}
		fmt.Fprint(&text, "\n\t", d)
	}
	if text.Len() > 0 {
		t.Error(s.title(i) + text.String())
	}
}
