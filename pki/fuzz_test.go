package pki

import "testing"

func FuzzPEM(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := DecodeCert(data); (c == nil) == (err == nil) {
			t.Fatal(c, err)
		}
		if k, err := decodeKey(data); err == nil && k == nil {
			t.Fatal("neither a key nor an error")
		}
		if keys, err := decodePublics(data); err == nil && len(keys) == 0 {
			t.Fatal("neither keys nor an error")
		}
	})
}
