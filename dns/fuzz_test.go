package dns

import (
	"bytes"
	"log/slog"
	"testing"
)

func FuzzResolvers(f *testing.F) {
	f.Add("nameserver 10.0.0.1\nnameserver ::1%eth0\nsearch a.b\n")
	f.Fuzz(func(t *testing.T, conf string) {
		if servers := (&forwarder{log: slog.New(slog.DiscardHandler)}).parse(conf); len(servers) > maxUpstreams {
			t.Fatal(servers)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := readTCP(bytes.NewReader(data)); err == nil && len(b)+2 > len(data) {
			t.Fatal("more than was sent")
		}
	})
}
