package store

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/proa-dev/proa/apis/api"
)

// For every kind of k8s.io/api: what is spliced is what a full encode gives.
func TestSpliceAllKinds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	filler := fuzzer.FuzzerFor(metafuzzer.Funcs, rand64{random}, serializer.NewCodecFactory(scheme.Scheme))
	kinds := 0
	for gvk := range scheme.Scheme.AllKnownTypes() {
		blank, err := scheme.Scheme.New(gvk)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := blank.(api.Object); !ok || gvk.Version == "__internal" {
			continue
		}
		kinds++
		for round := range 5 {
			obj := must[any](t)(scheme.Scheme.New(gvk)).(api.Object)
			if round > 0 {
				filler.Fill(obj)
			}
			obj.SetResourceVersion("")
			obj.SetSelfLink("")
			stored := must[[]byte](t)(obj.(marshaler).Marshal())
			s := must[splice](t)(newSplice(stored, 4711))
			obj.SetResourceVersion("4711")
			want := must[[]byte](t)(obj.(marshaler).Marshal())
			if got := s.append(nil); !bytes.Equal(got, want) || s.size() != len(want) {
				t.Fatalf("%v: spliced %d bytes, encoded %d\n%x\n%x", gvk, len(got), len(want), got, want)
			}
		}
	}
	t.Logf("%d kinds", kinds)
}

type marshaler interface{ Marshal() ([]byte, error) }

type rand64 struct{ *rand.Rand }

func (r rand64) Int63() int64 { return r.Int64() }
func (rand64) Seed(int64)     {}

// Garbage in etcd is left out, it never panics; what is taken for whole can be served.
func FuzzStored(f *testing.F) {
	kind := pods()
	c := newCodec(kind)
	p := pod("a", "x", "n")
	p.UID, p.CreationTimestamp = "u", metav1.Unix(1, 0)
	whole, err := c.encode(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-9])
	f.Add([]byte("k8s\x00\x0a\x7f"))
	f.Add([]byte(`{"metadata":{"name":"x"}}`))
	text, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, value []byte) {
		obj, err := c.decode(value, 7)
		if check(value) != nil || !bytes.HasPrefix(value, magic) {
			return
		}
		env, openErr := open(value)
		if openErr != nil {
			t.Fatal("whole, but does not open")
		}
		s, spliceErr := newSplice(env.raw, 7)
		if spliceErr != nil {
			t.Fatalf("whole, but does not splice: %v", spliceErr)
		}
		got := s.append(nil)
		if len(got) != s.size() {
			t.Fatalf("%d bytes, announced %d", len(got), s.size())
		}
		if err != nil {
			return
		}
		again := kind.New()
		if err := again.(message).Unmarshal(got); err != nil {
			t.Fatalf("decodes as stored, but not as served: %v", err)
		}
		if rv := again.GetResourceVersion(); rv != obj.GetResourceVersion() {
			t.Fatalf("served with resourceVersion %q", rv)
		}
	})
}
