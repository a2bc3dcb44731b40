package seal

import "testing"

func FuzzConfig(f *testing.F) {
	f.Add([]byte("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc: {keys: [{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n  - identity: {}\n"))
	f.Add([]byte(`{"resources":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := parse(raw); (c == nil) == (err == nil) {
			t.Fatal(c, err)
		}
	})
}
