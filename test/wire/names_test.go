package wire

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// TestNames: equal values have one placeholder, others another one, and both ways hold.
func TestNames(t *testing.T) {
	now := time.Now().UTC()
	n := NewNames("area-case-x", "127.0.0.1:1")
	const uid, other = "01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef"
	for _, test := range [][2]string{
		{`{"metadata": {"uid": "` + uid + `", "resourceVersion": "71", "namespace": "area-case-x"}}`, `{"metadata":{"namespace":"{ns}","resourceVersion":"{rv1}","uid":"{uid1}"}}`},
		{`{"metadata": {"uid": "` + other + `", "resourceVersion": "72"}}`, `{"metadata":{"resourceVersion":"{rv2}","uid":"{uid2}"}}`},
		{`{"items": [], "metadata": {"resourceVersion": "73"}}`, `{"items":[],"metadata":{"resourceVersion":"{revision}"}}`},
		{`{"message": "UID ` + uid + `: version: 5 (72), version: 5 (73), 71"}`, `{"message":"UID {uid1}: version: 5 ({rv2}), version: 5 ({revision}), 71"}`},
		{`{"t": "` + now.Format(time.RFC3339) + `", "m": "` + now.Format("2006-01-02T15:04:05.000000Z07:00") + `", "old": "2001-01-01T00:00:00Z"}`,
			`{"m":"{microtime}","old":"2001-01-01T00:00:00Z","t":"{time}"}`},
		{`{"metadata": {"managedFields": [{"manager": "m", "operation": "Apply", "subresource": "status", "apiVersion": "v1", "time": "` + now.Format(time.RFC3339) + `", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {".": {}, "f:b": {}}}}]}}`,
			`{"metadata":{"managedFields":["m Apply/status v1 {time}: f:a{. f:b}"]}}`},
		{`{"cells": ["5d3h", "5", 3], "clusterIP": "10.96.3.4"}`, `{"cells":["{age}","5",3],"clusterIP":"{ip}"}`},
	} {
		v, err := fromJSON([]byte(test[0]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(n.Value(v)); err != nil || string(got) != test[1] {
			t.Errorf("%s\ngot  %s, %v\nwant %s", test[0], got, err, test[1])
		}
	}
	if got := n.Fill("{rv1} {uid2} {ns} {x*3} {unknown}"); got != "71 "+other+" area-case-x xxx {unknown}" {
		t.Error(got)
	}
}

// TestDifferences names what lacks, what is too much and what is another value.
func TestDifferences(t *testing.T) {
	got := &Answer{Code: 200, Body: map[string]any{"a": 1, "b": []any{1, 2}, "d": nil}}
	want := &Answer{Code: 201, Body: map[string]any{"a": "1", "b": []any{1}, "c": true}}
	list, err := Differences(got, want)
	if err != nil {
		t.Fatal(err)
	}
	expected := []string{".body.a: is   1\n\twant \"1\"", ".body.b.1: extra 2", ".body.c: lacks true", ".body.d: extra null", ".code: is   200\n\twant 201"}
	if !slices.Equal(list, expected) {
		t.Errorf("%q", list)
	}
	if same, err := Differences(got, got); err != nil || len(same) > 0 {
		t.Errorf("an answer differs from itself: %q, %v", same, err)
	}
}

// FuzzDecode: no answer can make the frame panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"metadata": {"managedFields": [{"fieldsV1": {"f:a": {}}, "fieldsType": "FieldsV1"}, 3], "continue": "x"}, "items": 3, "cells": {}}`), "a.*.b")
	f.Add([]byte("k8s\x00\n\x0c\n\x02v1\x12\x06Status"), "a")
	f.Fuzz(func(t *testing.T, raw []byte, path string) {
		v, err := decode(nil, raw)
		if err != nil {
			return
		}
		v = NewNames("ns", "s").Value(v)
		hide(v, path)
		at(v, path)
	})
}
