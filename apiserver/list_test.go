package apiserver_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
)

func TestSelectors(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		for i := range 6 {
			p := pod(fmt.Sprintf("p%d", i))
			p.Labels = map[string]string{"n": fmt.Sprint(i)}
			p.Spec.NodeName = fmt.Sprintf("node%d", i%2)
			must[*corev1.Pod](t)(c.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{}))
		}
		for _, q := range []struct{ labels, fields, want string }{
			{"", "", "p0 p1 p2 p3 p4 p5"},
			{"n in (1,3)", "", "p1 p3"},
			{"n notin (0,1,2,3)", "", "p4 p5"},
			{"!n", "", ""},
			{"n>3", "", "p4 p5"},
			{"", "spec.nodeName=node1", "p1 p3 p5"},
			{"n!=3", "spec.nodeName=node1", "p1 p5"},
			{"", "spec.nodeName!=node1", "p0 p2 p4"},
			{"", "metadata.name=p2", "p2"},
			{"", "metadata.name=p2,spec.nodeName=node1", ""},
			{"", "metadata.namespace=other", ""},
			{"", "status.phase=Pending,spec.restartPolicy=Always", "p0 p1 p2 p3 p4 p5"},
		} {
			for _, where := range []string{ns, ""} {
				list := must[*corev1.PodList](t)(c.CoreV1().Pods(where).List(t.Context(), metav1.ListOptions{LabelSelector: q.labels, FieldSelector: q.fields}))
				var names []string
				for _, p := range list.Items {
					if p.Namespace == ns {
						names = append(names, p.Name)
					}
				}
				if got := strings.Join(names, " "); got != q.want {
					t.Errorf("%q %q in %q: %s, want %s", q.labels, q.fields, where, got, q.want)
				}
			}
		}
	})
}

func TestPagesAreOneState(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, maps := t.Context(), c.CoreV1().ConfigMaps(ns)
		var want []string
		for i := range 25 {
			want = append(want, fmt.Sprintf("m%02d", i))
			must[*corev1.ConfigMap](t)(maps.Create(ctx, configMap(want[i]), metav1.CreateOptions{}))
		}
		list := must[*corev1.ConfigMapList](t)(maps.List(ctx, metav1.ListOptions{}))
		exact := list.ResourceVersion
		var got []string
		token, revision := "", ""
		for page := 0; ; page++ {
			list := must[*corev1.ConfigMapList](t)(maps.List(ctx, metav1.ListOptions{Limit: 10, Continue: token}))
			for _, m := range list.Items {
				got = append(got, m.Name)
			}
			if revision == "" {
				revision = list.ResourceVersion
			}
			if list.ResourceVersion != revision {
				t.Errorf("page %d is of %s, not %s", page, list.ResourceVersion, revision)
			}
			if page == 0 && (list.RemainingItemCount == nil || *list.RemainingItemCount != 15) {
				t.Errorf("remaining %v", list.RemainingItemCount)
			}
			if token = list.Continue; token == "" {
				break
			}
			// The world goes on meanwhile.
			must[*corev1.ConfigMap](t)(maps.Create(ctx, configMap(fmt.Sprintf("m%02dx", 10*page+15)), metav1.CreateOptions{}))
			if err := maps.Delete(ctx, want[10*page+12], metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		match := metav1.ListOptions{ResourceVersion: exact, ResourceVersionMatch: metav1.ResourceVersionMatchExact}
		if n := len(must[*corev1.ConfigMapList](t)(maps.List(ctx, match)).Items); n != 25 {
			t.Errorf("exactly then: %d", n)
		}
		match.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
		if l := must[*corev1.ConfigMapList](t)(maps.List(ctx, match)); l.ResourceVersion == exact {
			t.Errorf("not older than: %s", l.ResourceVersion)
		}
	})
}

func TestTablesAndPartials(t *testing.T) {
	h := newHouse(t)
	for i := range 3 {
		must[*corev1.Pod](t)(h.typed("root").CoreV1().Pods("default").Create(t.Context(), pod(fmt.Sprintf("p%d", i)), metav1.CreateOptions{}))
	}
	const pods = "/api/v1/namespaces/default/pods"
	kubectl := "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
	decode := func(path string) (table metav1.Table) {
		t.Helper()
		a := h.do("GET", path, "", "Accept", kubectl)
		if err := json.Unmarshal(a.body, &table); err != nil || a.code != 200 {
			t.Fatalf("%d %v %s", a.code, err, a.body)
		}
		return table
	}
	table := decode(pods+"?limit=2")
	if len(table.Rows) != 2 || table.Continue == "" || table.Kind != "Table" || table.ColumnDefinitions[0].Name != "Name" || table.Rows[0].Cells[0] != "p0" || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
		t.Errorf("%+v", table)
	}
	table = decode(pods+"/p1?includeObject=None")
	if len(table.Rows) != 1 || table.Rows[0].Object.Raw != nil || table.ResourceVersion == "" {
		t.Errorf("%+v", table)
	}
	table = decode(pods+"/p1?includeObject=Object")
	if !bytes.Contains(table.Rows[0].Object.Raw, []byte(`"kind":"Pod"`)) {
		t.Errorf("%s", table.Rows[0].Object.Raw)
	}
	if a := h.do("GET", pods+"/none", "", "Accept", kubectl); a.code != 404 || a.status(t).Reason != "NotFound" {
		t.Errorf("%d %s", a.code, a.body)
	}

	meta := h.metadata().Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace("default")
	one := must[*metav1.PartialObjectMetadata](t)(meta.Get(t.Context(), "p1", metav1.GetOptions{}))
	if one.Name != "p1" || one.UID == "" {
		t.Errorf("%+v", one)
	}
	list := must[*metav1.PartialObjectMetadataList](t)(meta.List(t.Context(), metav1.ListOptions{}))
	if len(list.Items) != 3 || list.Items[2].Name != "p2" || list.ResourceVersion == "" {
		t.Errorf("%+v", list)
	}
	a := h.do("GET", pods, "", "Accept", "application/json;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io")
	if !bytes.Contains(a.body, []byte(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1beta1"`)) || !bytes.Contains(a.body, []byte(`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1beta1"`)) {
		t.Errorf("%s", a.body)
	}

	u := must[*unstructured.UnstructuredList](t)(h.dynamic().Resource(corev1.SchemeGroupVersion.WithResource("pods")).List(t.Context(), metav1.ListOptions{}))
	if len(u.Items) != 3 || u.Items[0].GetKind() != "Pod" {
		t.Errorf("%+v", u.Items)
	}
}

func TestGzipYAMLPretty(t *testing.T) {
	h := newHouse(t)
	for i := range 4 {
		must[*corev1.ConfigMap](t)(h.typed("root").CoreV1().ConfigMaps("default").Create(t.Context(), configMap(fmt.Sprintf("m%d", i), "k", strings.Repeat("x", 60_000)), metav1.CreateOptions{}))
	}
	for _, path := range []string{maps, maps + "?pretty=1"} {
		a := h.do("GET", path, "", "Accept-Encoding", "gzip")
		if a.header.Get("Content-Encoding") != "gzip" || len(a.body) > 50_000 {
			t.Fatalf("%v, %d bytes", a.header, len(a.body))
		}
		z, err := gzip.NewReader(bytes.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		var list corev1.ConfigMapList
		raw, err := io.ReadAll(z)
		if err != nil || json.Unmarshal(raw, &list) != nil || len(list.Items) != 4 {
			t.Errorf("%v %d", err, len(list.Items))
		}
	}
	if a := h.do("GET", maps+"/m0", "", "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" {
		t.Error("a short answer was compressed")
	}
	if a := h.do("GET", maps+"/m0", "", "Accept", "application/yaml"); !strings.HasPrefix(string(a.body), "apiVersion: v1\n") || a.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%.100s", a.body)
	}
	if a := h.do("GET", maps+"/m0?pretty=true", ""); !strings.HasPrefix(string(a.body), "{\n  \"kind\": \"ConfigMap\",") {
		t.Errorf("%.100s", a.body)
	}
}
