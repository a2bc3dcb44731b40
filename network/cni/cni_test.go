package cni

import (
	"bytes"
	"testing"
)

func FuzzRequest(f *testing.F) {
	var b bytes.Buffer
	if err := WriteRequest(&b, Request{Env: []string{"CNI_COMMAND=ADD"}, Stdin: []byte("{}")}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 4, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := ReadRequest(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteRequest(&out, r); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Fatalf("%x became %x", in, out.Bytes())
		}
	})
}
