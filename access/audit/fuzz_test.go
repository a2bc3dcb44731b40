package audit

import "testing"

func FuzzPolicy(f *testing.F) {
	f.Add([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  resources: [{group: '', resources: [pods]}]\n"))
	f.Add([]byte(`{"kind":"Policy","rules":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePolicy(raw)
		if (p == nil) == (err == nil) {
			t.Fatal(p, err)
		}
	})
}
