package patch

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
)

func TestCBORToJSON(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{"\xa1\x41a\x01", `{"a":1}`},
		{"\xd9\xd9\xf7\xa1\x61a\x41b", `{"a":"b"}`},
		{"\xa1\x41a\xd6\x43\x00\xff\xfe", `{"a":"AP/+"}`},             // base64 is expected later
		{"\xa1\x41a\xd6\x5f\x42\x00\xff\x41\xfe\xff", `{"a":"AP/+"}`}, // in parts
		{"\xa1\x41a\xf9\x3e\x00", `{"a":1.5}`},
		{"\xbf\x41a\x9f\x01\xf6\xff\xff", `{"a":[1,null]}`}, // without lengths
		{"\xa1\x41a\xd9\x04\xd2\x01", `{"a":1}`},            // a tag of no meaning
		{"\xa1\x41a\x63<&>", `{"a":"<&>"}`},
		{"\xa1\x41a\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", fmt.Sprintf(`{"a":%d}`, math.MinInt64)},
	} {
		got, err := CBORToJSON([]byte(c.body))
		if err != nil || string(got) != c.want {
			t.Errorf("%q: %s, %v; want %s", c.body, got, err, c.want)
		}
	}
	for body, text := range map[string]string{
		"\xa1\x41a\xff": "",
		"\xa1\x41a\xf7": "", // undefined
		"\xa1\x41a\x1b" + strings.Repeat("\xff", 8): "",                       // more than 64 bits with a sign
		"\xa1\x41a\xc2\x41\x01":                     "",                       // a big number
		"\xa1\x41a\x41\xff":                         "not valid UTF-8",        // neither text nor to be encoded
		"\xa1\x01\x01":                              "",                       // a key that is no text
		"\xa2\x41a\x01\x61a\x02":                    "duplicate map key",      // as bytes and as text
		"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff":      "unexpected end of data", // more than there is
		"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff":      "",
		"\xa0\xa0":                                  "extraneous data",
	} {
		if got, err := CBORToJSON([]byte(body)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %s, %v; want %q", body, got, err, text)
		}
	}
}

// No body takes much more than what is allowed.
func TestAttackCBOR(t *testing.T) {
	for _, size := range []int{3 << 20, 1 << 20, 1 << 18} {
		for name, body := range cborBombs(size) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := CBORToJSON(body)
			runtime.ReadMemStats(&after)
			took := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%d bytes, %s: %d MiB, %v", size, name, took, err)
			if took > 2*maxCost>>20 {
				t.Errorf("%d bytes, %s: took %d MiB", size, name, took)
			}
		}
	}
}

// cborBombs are bodies of a size that are all values.
func cborBombs(size int) map[string][]byte {
	fill := func(head, part string) []byte {
		n := (size - 16) / len(part)
		return []byte(fmt.Sprintf(head, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + strings.Repeat(part, n))
	}
	return map[string][]byte{
		"numbers":    fill("\xa1\x41a\x9a%s", "\x00"),
		"maps":       fill("\xa1\x41a\x9a%s", "\xa0"),
		"entries":    fill("\xa1\x41a\x9a%s", "\xa1\x40\x00"),
		"texts":      fill("\xa1\x41a\x9a%s", "\x40"),
		"no lengths": append(append([]byte("\xa1\x41a\x9f"), strings.Repeat("\x9f\xff", size/2-8)...), 0xff),
		"deep":       []byte(strings.Repeat("\x81", size)),
		"tags":       []byte(strings.Repeat("\xc1", size)),
		"pieces":     append(append([]byte("\xa1\x41a\x5f"), strings.Repeat("\x41a", size/2-8)...), 0xff),
	}
}

func FuzzCBOR(f *testing.F) {
	pod, err := cbor.Marshal(aPod())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(pod), "\xa2\x41a\x01\x41a\x02", "\xbf\x41a\x9f\x01\xff\xff", "\xa1\x41a\xd6\x43\x00\xff\xfe",
		"\xa1\x41a\x5f\x41b\x41c\xff", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", strings.Repeat("\x81", 99), "\xd9\xd9\xf7\xa0",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		raw, err := CBORToJSON(body)
		if err == nil && !json.Valid(raw) {
			t.Errorf("no JSON: %q", raw)
		}
		_, err = Decode(podKind.GroupVersionKind, &corev1.Pod{}, mediaCBOR, body, "Warn")
		if _, ok := err.(apierrors.APIStatus); err != nil && !ok {
			t.Errorf("not a status: %v", err)
		}
	})
}
