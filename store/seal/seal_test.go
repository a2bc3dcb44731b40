package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

var secrets = schema.GroupResource{Resource: "secrets"}

const where = "/registry/secrets/default/a"

func encoded(b byte, n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, n))
}

// config is a configuration for resources, with providers as indented lines.
func config(t *testing.T, text string) *Keys {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(file, []byte("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func one(provider string) string {
	return "- resources: [secrets]\n  providers:\n  - " + provider + "\n  - identity: {}\n"
}

func key(how, name string, b byte, n int) string {
	return how + ": {keys: [{name: " + name + ", secret: " + encoded(b, n) + "}]}"
}

func TestRoundTrip(t *testing.T) {
	plain := []byte("k8s\x00 a secret of 1 to 40 bytes ..........")
	for how, text := range map[string]string{
		"aesgcm":    key("aesgcm", "k1", 1, 32),
		"aescbc":    key("aescbc", "k1", 2, 16),
		"secretbox": key("secretbox", "k1", 3, 32),
	} {
		s, other := config(t, one(text)).For(secrets), config(t, one(key(how, "k1", 9, 32))).For(secrets)
		for n := range plain {
			stored, err := s.Seal(where, plain[:n])
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(stored, []byte("k8s:enc:"+how+":v1:k1:")) || n > 8 && bytes.Contains(stored, plain[:n]) {
				t.Fatalf("%s: stored as %q", how, stored)
			}
			got, stale, err := s.Open(where, stored)
			if err != nil || stale || !bytes.Equal(got, plain[:n]) {
				t.Fatalf("%s: %q %v %v", how, got, stale, err)
			}
			if got, _, err := other.Open(where, stored); err == nil && bytes.Equal(got, plain[:n]) {
				t.Fatalf("%s: opened with another key", how)
			}
		}
		if _, stale, err := s.Open(where, plain); err != nil || !stale {
			t.Errorf("%s: a plain value: stale %v, %v", how, stale, err)
		}
	}
}

// A value is the one that upstream documents: prefix, 12 bytes of nonce, the sealed text,
// authenticated with the key in etcd.
func TestFormatOfGCM(t *testing.T) {
	s := config(t, one(key("aesgcm", "k1", 1, 32))).For(secrets)
	stored, err := s.Seal(where, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(bytes.Repeat([]byte{1}, 32))
	aead, _ := cipher.NewGCM(block)
	body := stored[len("k8s:enc:aesgcm:v1:k1:"):]
	plain, err := aead.Open(nil, body[:12], body[12:], []byte(where))
	if err != nil || string(plain) != "value" {
		t.Fatalf("%q %v", plain, err)
	}
}

func TestRefused(t *testing.T) {
	s := config(t, one(key("aesgcm", "k1", 1, 32))).For(secrets)
	stored, err := s.Seal(where, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	tampered := bytes.Clone(stored)
	tampered[len(tampered)-1] ^= 1
	otherName := config(t, one(key("aesgcm", "k2", 1, 32))).For(secrets)
	otherKey := config(t, one(key("aesgcm", "k1", 2, 32))).For(secrets)
	var none *Sealer
	for what, c := range map[string]struct {
		s      *Sealer
		key    string
		stored []byte
		err    error
	}{
		"tampered":     {s, where, tampered, ErrOpen},
		"moved":        {s, "/registry/secrets/default/b", stored, ErrOpen},
		"wrong key":    {otherKey, where, stored, ErrOpen},
		"missing key":  {otherName, where, stored, ErrKey},
		"no providers": {none, where, stored, ErrKey},
		"cut off":      {s, where, stored[:len("k8s:enc:aesgcm:v1:k1:")+3], errShort},
	} {
		_, _, err := c.s.Open(c.key, c.stored)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, part := range []string{c.key, `aesgcm key "k1"`} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not name %s", what, err, part)
			}
		}
	}
}

func TestOlderKeysReadAndAreStale(t *testing.T) {
	old := config(t, one(key("aesgcm", "k1", 1, 32))).For(secrets)
	now := config(t, one("aesgcm: {keys: [{name: k2, secret: "+encoded(2, 32)+"}, {name: k1, secret: "+encoded(1, 32)+"}]}")).For(secrets)
	same := config(t, one(key("aesgcm", "k1", 2, 32)+"\n  - "+key("aesgcm", "k1", 1, 32))).For(secrets) // one name, two keys
	stored, err := old.Seal(where, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []*Sealer{now, same} {
		plain, stale, err := s.Open(where, stored)
		if err != nil || !stale || string(plain) != "value" {
			t.Errorf("%d: %q %v %v", i, plain, stale, err)
		}
	}
	away := config(t, "- resources: [secrets]\n  providers:\n  - identity: {}\n  - "+key("aesgcm", "k1", 1, 32)+"\n").For(secrets)
	if plain, stale, err := away.Open(where, stored); err != nil || !stale || string(plain) != "value" || away.Writes() != "identity" {
		t.Errorf("away from encryption: %q %v %v", plain, stale, err)
	}
}

func TestResources(t *testing.T) {
	k := config(t, `- resources: [events]
  providers: [{identity: {}}]
- resources: [secrets, pandas.bears.example]
  providers: [{`+key("aesgcm", "a", 1, 32)+`}]
- resources: ['*.apps']
  providers: [{`+key("aesgcm", "b", 1, 32)+`}]
- resources: ['*.']
  providers: [{`+key("aesgcm", "c", 1, 32)+`}]
- resources: ['*.*']
  providers: [{`+key("aesgcm", "d", 1, 32)+`}]
`)
	for name, want := range map[string]string{
		"events": "identity", "secrets": `aesgcm key "a"`, "pandas.bears.example": `aesgcm key "a"`,
		"deployments.apps": `aesgcm key "b"`, "pods": `aesgcm key "c"`, "jobs.batch": `aesgcm key "d"`,
	} {
		if got := k.For(schema.ParseGroupResource(name)).Writes(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if s := config(t, one("identity: {}")).For(schema.GroupResource{Resource: "pods"}); !s.Plain() || s.Writes() != "identity" {
		t.Error("pods are not configured")
	}
}

func TestInvalid(t *testing.T) {
	head := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\n"
	for text, want := range map[string]string{
		"kind: Pod\napiVersion: v1\n": `must be EncryptionConfiguration of apiserver.config.k8s.io/v1`,
		head:                          "resources: Required value: at least one resources is required",
		head + "resources:\n- providers: [{identity: {}}]\n":                                                                                          "resources[0].resources: Required value",
		head + "resources:\n- resources: [secrets]\n":                                                                                                 "resources[0].providers: Required value: at least one resources[0].providers is required",
		head + "resources:\n- resources: [secrets, '*.']\n  providers: [{identity: {}}]\n":                                                            "using overlapping resources",
		head + "resources:\n- resources: [secrets, secrets]\n  providers: [{identity: {}}]\n":                                                         "the same resource cannot be specified multiple times",
		head + "resources:\n- resources: ['*']\n  providers: [{identity: {}}]\n":                                                                      "use '*.' to encrypt all the resources from core API group",
		head + "resources:\n- resources: [secrets]\n  providers: [{}]\n":                                                                              "does not contain any of the expected providers",
		head + "resources:\n- resources: [secrets]\n  providers: [{identity: {}, aesgcm: {keys: []}}]\n":                                              "more than one provider specified",
		head + "resources:\n- resources: [secrets]\n  providers: [{aesgcm: {keys: [{name: a, secret: AAAA}]}}]\n":                                     "secret is not of the expected length, got 3, expected one of [16 24 32]",
		head + "resources:\n- resources: [secrets]\n  providers: [{aesgcm: {keys: [{name: a, secret: '!'}]}}]\n":                                      "secrets must be base64 encoded",
		head + "resources:\n- resources: [secrets]\n  providers: [{kms: {apiVersion: v2, name: a, endpoint: 'tcp://x'}}]\n":                           `unsupported scheme "tcp"`,
		head + "resources:\n- resources: [secrets]\n  providers: [{kms: {name: a, endpoint: 'unix:///x'}}]\n":                                         `supported values: "v2"`,
		head + "resources:\n- resources: [secrets]\n  providers: [{secretbox: {keys: [{name: a, secret: " + encoded(1, 16) + "}]}}]\n  what: is this": `unknown field "what"`,
	} {
		_, err := parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v", text, err)
		}
	}
}

func TestGeneratedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pki", "encryption.yaml")
	k, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	s := k.For(secrets)
	stored, err := s.Seal(where, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := k.Rotate()
	if err != nil || !strings.Contains(s.Writes(), name) {
		t.Fatalf("%s: %v", s.Writes(), err)
	}
	again, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Sealer{s, again.For(secrets)} {
		if plain, stale, err := s.Open(where, stored); err != nil || !stale || string(plain) != "value" {
			t.Errorf("%q %v %v", plain, stale, err)
		}
	}
	if _, err := config(t, one(key("aesgcm", "k1", 1, 32))).Rotate(); !errors.Is(err, ErrOwn) {
		t.Errorf("a file of the user's: %v", err)
	}
}

func FuzzEnvelope(f *testing.F) {
	e := envelope{data: []byte("d"), keyID: "k", sealed: []byte("s"), annotations: map[string][]byte{"a.b": []byte("v")}, source: 1}
	f.Add(e.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEnvelope(b)
		if err != nil {
			return
		}
		again, err := decodeEnvelope(e.encode())
		if err != nil || again.id() != e.id() || !bytes.Equal(again.data, e.data) {
			t.Errorf("%+v became %+v: %v", e, again, err)
		}
	})
}

// Servers that share data read what one of them seals with a new key before it does, and none
// forgets a key.
func TestKeysOfSeveralServers(t *testing.T) {
	open := func(dir string, from *Keys) *Keys {
		t.Helper()
		file := dir + "/keys.yaml"
		if from != nil {
			raw, err := os.ReadFile(from.file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a := open(t.TempDir(), nil)
	b, stranger := open(t.TempDir(), a), open(t.TempDir(), nil)
	secrets := schema.GroupResource{Resource: "secrets"}
	sa, sb := a.For(secrets), b.For(secrets)
	_, reads, writes, err := a.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Take(reads); err != nil {
		t.Fatal(err)
	}
	if sa.Writes() != sb.Writes() {
		t.Error("a server seals with a key that the others may not have")
	}
	if err := a.Take(writes); err != nil {
		t.Fatal(err)
	}
	sealed, err := sa.Seal("/k", []byte("hush"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, _, err := sb.Open("/k", sealed); err != nil || string(plain) != "hush" {
		t.Errorf("the other server: %q, %v", plain, err)
	}
	if err := b.Take(writes); err != nil || sa.Writes() != sb.Writes() {
		t.Errorf("the other server seals with %s: %v", sb.Writes(), err)
	}
	_, foreign, _, err := stranger.Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{foreign, []byte("x"), nil} {
		if b.Take(bad) == nil {
			t.Errorf("takes %.40q", bad)
		}
	}
}
