package seal

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"
)

// service is a key service whose sealing is turning bytes around.
type service struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	mu      sync.Mutex
	key     string
	decrypt int
}

func turned(b []byte, by byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= by
	}
	return out
}

func (s *service) use(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

func (s *service) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: s.key}, nil
}

func (s *service) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &kmsapi.EncryptResponse{Ciphertext: turned(r.Plaintext, s.key[0]), KeyId: s.key, Annotations: map[string][]byte{"with.example.com": []byte(s.key)}}, nil
}

func (s *service) Decrypt(_ context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decrypt++
	return &kmsapi.DecryptResponse{Plaintext: turned(r.Ciphertext, r.Annotations["with.example.com"][0])}, nil
}

func TestKeyService(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "kms.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, fake := grpc.NewServer(), &service{key: "one"}
	kmsapi.RegisterKeyManagementServiceServer(server, fake)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	text := one("kms: {apiVersion: v2, name: mine, endpoint: 'unix://" + socket + "', timeout: 5s}")
	s := config(t, text).For(secrets)
	var stored [][]byte
	for range 3 {
		v, err := s.Seal(where, []byte("a long enough value"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(v, []byte("k8s:enc:kms:v2:mine:")) || bytes.Contains(v, []byte("long enough")) {
			t.Fatalf("stored %q", v)
		}
		stored = append(stored, v)
	}
	again := config(t, text) // a server that starts: it asks the service once for all values
	if err := again.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader := again.For(secrets)
	for _, v := range stored {
		if plain, stale, err := reader.Open(where, v); err != nil || stale || string(plain) != "a long enough value" {
			t.Errorf("%q %v %v", plain, stale, err)
		}
	}
	if fake.decrypt != 1 {
		t.Errorf("asked %d times", fake.decrypt)
	}
	if _, _, err := reader.Open("/registry/secrets/default/b", stored[0]); err == nil || !strings.Contains(err.Error(), `kms key "mine"`) {
		t.Errorf("moved: %v", err)
	}

	// The service has another key: what the old one sealed is stale.
	fake.use("two")
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = again.Run(ctx, func() { changed <- struct{}{} }) }()
	<-changed
	if _, stale, err := reader.Open(where, stored[0]); err != nil || !stale {
		t.Errorf("after the service has another key: stale %v, %v", stale, err)
	}
	cancel()
	<-ended

	// A service that is away for long: nothing new is sealed, what is known opens.
	server.Stop()
	p := (*reader.providers.Load())[0].(*kms)
	p.now = func() time.Time { return time.Now().Add(kmsGood + time.Minute) }
	if _, err := reader.Seal(where, []byte("x")); err == nil || !strings.Contains(err.Error(), "does not answer any more") {
		t.Errorf("sealed without the service: %v", err)
	}
	if _, _, err := reader.Open(where, stored[0]); err != nil {
		t.Errorf("what is known does not open: %v", err)
	}
}
