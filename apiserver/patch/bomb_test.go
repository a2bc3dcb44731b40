package patch

import (
	"bytes"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// bombs are bodies of at most 3 MiB that want to become much more.
func bombs() map[string][2]string {
	const whole = 3 << 20
	fill := func(begin, part, end string) string {
		return begin + strings.Repeat(part, (whole-len(begin)-len(end))/len(part)) + end
	}
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'k'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 8), c-1)
	}
	merges := "a: &a {x: y}\n"
	for c := 'b'; c <= 'z'; c++ {
		merges += fmt.Sprintf("%c: &%c {<<: *%c, l: *%c, r: *%c}\n", c, c, c-1, c-1, c-1)
	}
	return map[string][2]string{
		"long text, many aliases":  {mediaYAML, fill("kind: Pod\nmetadata: {annotations: &m {a: &a "+strings.Repeat("x", 1<<20)+"}}\nb: [", "*a,", "]")},
		"short text, many aliases": {mediaYAML, "kind: Pod\na: &a x\nb: [" + strings.Repeat("*a,", 100_000) + "]"},
		"a billion laughs":         {mediaYAML, laughs},
		"merged maps":              {mediaYAML, merges},
		"alias of itself":          {mediaYAML, "a: &a [*a,*a]\n"},
		"nested YAML":              {mediaYAML, fill("a: ", "[", "")},
		"nested YAML maps":         {mediaYAML, fill("a: ", "{a: ", "")},
		"nested JSON":              {mediaJSON, fill(`{"a":`, "[", "")},
		"nested JSON maps":         {mediaJSON, fill("", `{"metadata":`, "")},
		"empty containers":         {mediaJSON, fill(`{"spec":{"containers":[`, `{},`, `{}]}}`)},
		"empty YAML containers":    {mediaYAML, fill("spec: {containers: [", `{},`, `{}]}`)},
		"null containers":          {mediaJSON, fill(`{"spec":{"containers":[`, `null,`, `{}]}}`)},
		"unknown fields":           {mediaJSON, fill(`{"a":[`, `{"a":0},`, `{}]}`)},
		"a field over and over":    {mediaJSON, fill(`{`, `"spec":{},`, `"a":0}`)},
		"a long number":            {mediaJSON, fill(`{"spec":{"priority":`, "9", `}}`)},
		"a long quantity":          {mediaJSON, fill(`{"spec":{"overhead":{"cpu":"`, "9", `"}}}`)},
		"a wide quantity":          {mediaJSON, `{"spec":{"overhead":{"cpu":"1e2147483647","memory":"1E-2147483648"}}}`},
		"a hidden quantity":        {mediaJSON, `{"spec":{"overhead":{"cpu":"1e-21474\u0038\u00336\u00347"}}}`},
		"a quantity given twice":   {mediaJSON, `{"spec":{"overhead":{"cpu":"1e-2147483647","cpu":"1"}}}`},
		"a wide number":            {mediaJSON, `{"spec":{"containers":[{},{"resources":{"limits":{"memory":1e-2147483647}}}]}}`},
		"empty messages":           {mediaProtobuf, wire(bytes.Repeat([]byte("\x12\x00"), 1<<20))},
		"a long quantity message":  {mediaProtobuf, wireQuantity(strings.Repeat("9", 2<<20))},
		"a wide quantity message":  {mediaProtobuf, wireQuantity("1e-2147483647")},
	}
}

// wire is a pod of that specification in protobuf.
func wire(spec []byte) string {
	pod := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), spec)
	envelope := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: pod}
	raw, _ := envelope.Marshal() // into memory
	return string(protobufMagic) + string(raw)
}

// wireQuantity is a pod with that overhead.
func wireQuantity(text string) string {
	spec := corev1.PodSpec{Overhead: corev1.ResourceList{"cpu": resource.MustParse("7777")}}
	raw, _ := spec.Marshal() // as above
	inner := func(text string) []byte {
		q := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "cpu")
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), q)
		return protowire.AppendBytes(protowire.AppendTag(nil, 32, protowire.BytesType), entry)
	}
	if !bytes.Contains(raw, inner("7777")) {
		return "not how it is encoded"
	}
	return wire(bytes.ReplaceAll(raw, inner("7777"), inner(text)))
}

var bombedKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

// No body costs more than a bounded multiple of its size, whatever is made of it (CVE-2019-11253,
// CVE-2019-11254). What is measured is all that was ever allocated, which is more than the peak.
func TestAttackBombs(t *testing.T) {
	const longest = time.Minute // the race detector and one core need a sixth of it, and what is not bounded never ends
	for name, bomb := range bombs() {
		for _, validation := range []string{"Strict", "Ignore"} {
			t.Run(name+" "+validation, func(t *testing.T) {
				if len(bomb[1]) > 3<<20+100 {
					t.Fatalf("%d bytes never get here", len(bomb[1]))
				}
				var before, after goruntime.MemStats
				goruntime.ReadMemStats(&before)
				begun := time.Now()
				_, err := Decode(bombedKind, &corev1.Pod{}, bomb[0], []byte(bomb[1]), validation)
				took := time.Since(begun)
				goruntime.ReadMemStats(&after)
				most := uint64(100 << 20)
				if bomb[0] == mediaYAML { // whose parser makes a hundred bytes of each
					most = 1 << 30
				}
				cost := after.TotalAlloc - before.TotalAlloc
				t.Logf("%d KB: %d MiB in %s: %.150s", len(bomb[1])>>10, cost>>20, took, fmt.Sprint(err))
				if cost > most || took > longest {
					t.Errorf("%d MiB in %s", cost>>20, took)
				}
			})
		}
	}
}

// What looks like a large quantity and is none stays as it is.
func TestLargeQuantitiesElsewhere(t *testing.T) {
	const text = "1e21474836470"
	body := `{"metadata":{"name":"` + text + `","labels":{"commit":"` + text + `"},"annotations":{"n":"` + strings.Repeat("9", 1000) + `"}},
		"spec":{"containers":[{"name":"c","args":["` + text + `"],"env":[{"name":"x","value":"` + text + `"}],"resources":{"limits":{"cpu":"1e3"}}}]}}`
	var pod corev1.Pod
	if _, err := Decode(bombedKind, &pod, mediaJSON, []byte(body), "Strict"); err != nil {
		t.Fatal(err)
	}
	raw, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	envelope := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}
	whole, err := envelope.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var again corev1.Pod
	if _, err := Decode(bombedKind, &again, mediaProtobuf, append([]byte(protobufMagic), whole...), ""); err != nil || again.Labels["commit"] != text || again.Spec.Containers[0].Resources.Limits.Cpu().Value() != 1000 {
		t.Errorf("%v: %+v", err, again)
	}
}

// A patch is no way around it.
func TestAttackPatchedQuantity(t *testing.T) {
	const quantity = `"1e-2147483647"`
	for name, patch := range map[string]func() error{
		"json": func() error {
			_, _, err := JSON(podKind, aPod(), []byte(`[{"op":"add","path":"/spec/overhead","value":{"cpu":`+quantity+`}}]`), "")
			return err
		},
		"merge": func() error {
			_, _, err := Merge(podKind, aPod(), []byte(`{"spec":{"overhead":{"cpu":`+quantity+`}}}`), "")
			return err
		},
		"strategic": func() error {
			_, _, err := Strategic(podKind, aPod(), []byte(`{"spec":{"overhead":{"cpu":`+quantity+`}}}`), "")
			return err
		},
		"apply": func() error {
			_, err := fieldsOf(t, podKind).Apply(aPod(), []byte(`{"apiVersion":"v1","kind":"Pod","spec":{"overhead":{"cpu":`+quantity+`}}}`), "m", "", false)
			return err
		},
		"apply of YAML": func() error {
			_, err := fieldsOf(t, podKind).Apply(aPod(), []byte("apiVersion: v1\nkind: Pod\nspec: {overhead: {cpu: "+quantity+"}}\n"), "m", "", false)
			return err
		},
	} {
		if err := patch(); err == nil || !strings.Contains(err.Error(), "quantities must match") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
