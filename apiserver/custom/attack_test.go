package custom_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const planets = `
metadata: {name: planets.stable.example.com}
spec:
	group: stable.example.com
	scope: Cluster
	names: {plural: planets, singular: globe, kind: Planet}
	versions:
	- name: v1
		served: true
		storage: true
		subresources: {status: {}}
		schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// Whose name begins like the other's, and whose objects must not be listed with the other's.
const planet = `
metadata: {name: planet.stable.example.com}
spec:
	group: stable.example.com
	scope: Namespaced
	names: {plural: planet, singular: tiny, kind: Tiny}
	versions:
	- name: v1
		served: true
		storage: true
		schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// A custom resource is reached by the path of its scope and no other, whatever the verb: what
// may be done in a namespace must not reach what is in none (CVE-2019-11247), and one kind's path
// not another's objects (CVE-2022-3162).
func TestAttackScope(t *testing.T) {
	h := newHouse(t, nil)
	wide, narrow := h.of(h.define(definition(t, planets)), "v1"), h.of(h.define(definition(t, planet)), "v1").Namespace("default")
	mars, err := wide.Create(t.Context(), object(t, "apiVersion: stable.example.com/v1\nkind: Planet\nmetadata: {name: mars}\nsecret: hush\n"), metav1.CreateOptions{})
	check(t, err)
	moon, err := narrow.Create(t.Context(), object(t, "apiVersion: stable.example.com/v1\nkind: Tiny\nmetadata: {name: moon}\nsecret: quiet\n"), metav1.CreateOptions{})
	check(t, err)
	send := func(method, path, body string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // enough for what is no watch
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "https://local"+path, strings.NewReader(body))
		check(t, err)
		r.Header.Set("Content-Type", "application/json")
		if method == http.MethodPatch {
			r.Header.Set("Content-Type", "application/merge-patch+json")
		}
		answer, err := h.config.Transport.RoundTrip(r)
		check(t, err)
		defer answer.Body.Close()
		raw, _ := io.ReadAll(answer.Body) // a watch is cut
		return answer.StatusCode, string(raw)
	}
	const root = "/apis/stable.example.com/v1"
	bodies := map[string]string{
		"mars": `{"apiVersion":"stable.example.com/v1","kind":"Planet","metadata":{"name":"mars"},"secret":"stolen"}`,
		"moon": `{"apiVersion":"stable.example.com/v1","kind":"Tiny","metadata":{"name":"moon","namespace":"default"},"secret":"stolen"}`,
		"new":  `{"apiVersion":"stable.example.com/v1","kind":"Planet","metadata":{"name":"new"}}`,
	}
	for _, path := range []string{
		root + "/namespaces/default/planets", root + "/namespaces/default/planets/mars", root + "/namespaces/default/planets/mars/status", root + "/namespaces/none/planets/mars",
		root + "/namespaces/default/planets?watch=1", root + "/watch/namespaces/default/planets", root + "/namespaces/default/planets/mars/scale",
		root + "/planet/moon", root + "/planet/moon/status", root + "/planet/default/moon", root + "/namespaces/default/planet/mars", root + "/planets/moon", root + "/planets/default",
		root + "/namespaces/planets/mars", root + "/namespaces/default/default/planets", "/apis/stable.example.com/v2/planets/mars", "/apis/example.com/v1/planets/mars", "/api/v1/planets/mars", "/apis/stable/v1/planets/mars",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
			for name, body := range bodies {
				code, answer := send(method, path, body)
				if code != http.StatusNotFound && code != http.StatusMethodNotAllowed && code != http.StatusBadRequest && code != http.StatusUnprocessableEntity && code != http.StatusUnsupportedMediaType {
					t.Errorf("%s %s (%s): %d %.200s", method, path, name, code, answer)
				}
				if strings.Contains(answer, "hush") || strings.Contains(answer, "quiet") {
					t.Errorf("%s %s shows %.200s", method, path, answer)
				}
			}
		}
	}
	for path, want := range map[string]string{root + "/planets": "mars", root + "/planet": "moon", root + "/namespaces/default/planet": "moon"} {
		if code, answer := send("GET", path, ""); code != http.StatusOK || strings.Count(answer, `"name":`) != 1 || !strings.Contains(answer, want) {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
	if code, _ := send("DELETE", root+"/planet", ""); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
		t.Errorf("all namespaces were emptied at once: %d", code)
	}
	now, err := wide.Get(t.Context(), "mars", metav1.GetOptions{})
	check(t, err)
	other, err := narrow.Get(t.Context(), "moon", metav1.GetOptions{})
	check(t, err)
	if now.GetResourceVersion() != mars.GetResourceVersion() || other.GetResourceVersion() != moon.GetResourceVersion() {
		t.Errorf("changed: %v, %v", now, other)
	}
}
