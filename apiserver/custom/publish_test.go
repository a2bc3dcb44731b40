package custom_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

func (h *house) get(path, accept string) []byte {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "https://local"+path, nil)
	check(h.t, err)
	r.Header.Set("Accept", accept)
	resp, err := h.config.Transport.RoundTrip(r)
	check(h.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	check(h.t, err)
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %d %s", path, resp.StatusCode, raw)
	}
	return raw
}

// What is defined is announced as soon as it is established, and no longer when it is gone.
func TestPublish(t *testing.T) {
	h, ctx := newHouse(t, nil), t.Context()
	d := h.define(definition(t, crontabs))
	c, err := discovery.NewDiscoveryClientForConfig(h.config)
	check(t, err)
	list, err := c.ServerResourcesForGroupVersion("stable.example.com/v1")
	check(t, err)
	got := map[string]string{}
	for _, r := range list.APIResources {
		got[r.Name] = r.Kind + " " + strings.Join(r.ShortNames, ",") + " " + strings.Join(r.Verbs, ",")
	}
	want := map[string]string{
		"crontabs":        "CronTab ct delete,deletecollection,get,list,patch,create,update,watch",
		"crontabs/status": "CronTab  get,patch,update",
		"crontabs/scale":  "Scale  get,patch,update",
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %q, want %q", name, got[name], text)
		}
	}
	doc := spec.Swagger{}
	check(t, json.Unmarshal(h.get("/openapi/v2", "application/json"), &doc))
	def := doc.Definitions["com.example.stable.v1.CronTab"]
	if def.Properties["spec"].Properties["cronSpec"].Type[0] != "string" || len(def.Properties["metadata"].Description) == 0 || def.Properties["spec"].Properties["replicas"].Default != nil {
		t.Errorf("definition %+v", def)
	}
	if !bytes.Contains(h.get("/openapi/v3/apis/stable.example.com/v1", "application/json"), []byte(`"com.example.stable.v1.CronTabList"`)) {
		t.Error("no list in version 3")
	}
	var table metav1.Table
	_, err = h.of(d, "v1").Namespace("default").Create(ctx, object(t, crontab), metav1.CreateOptions{})
	check(t, err)
	check(t, json.Unmarshal(h.get("/apis/stable.example.com/v1/crontabs", "application/json;as=Table;v=v1;g=meta.k8s.io"), &table))
	if len(table.ColumnDefinitions) != 3 || table.Rows[0].Cells[1] != "* * * * */5" || table.Rows[0].Cells[2] != 1.0 {
		t.Errorf("table %+v", table)
	}
	check(t, h.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(ctx, d.Name, metav1.DeleteOptions{}))
	h.gone(d.Name)
	for {
		if _, err := c.ServerResourcesForGroupVersion("stable.example.com/v1"); err != nil {
			break // within the deadline of the test
		}
	}
}
