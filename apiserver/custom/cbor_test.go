package custom_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	clientfeatures "k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/rest"
)

// wire notes the media types of requests and answers.
type wire struct {
	http.RoundTripper
	seen map[string]bool
}

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	if err == nil {
		w.seen[r.Header.Get("Content-Type")], w.seen["-> "+resp.Header.Get("Content-Type")] = true, true
	}
	return resp, err
}

func TestCustomInCBOR(t *testing.T) {
	featurestesting.SetFeatureDuringTest(t, clientfeatures.ClientsAllowCBOR, true)
	featurestesting.SetFeatureDuringTest(t, clientfeatures.ClientsPreferCBOR, true)
	h, ctx := newHouse(t, nil), t.Context()
	h.define(definition(t, crontabs))
	seen := map[string]bool{}
	config := rest.CopyConfig(h.config)
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return wire{rt, seen} })
	objects, err := dynamic.NewForConfig(config)
	check(t, err)
	c := objects.Resource(schema.GroupVersionResource{Group: "stable.example.com", Version: "v1", Resource: "crontabs"}).Namespace("default")

	_, err = c.Create(ctx, object(t, crontab), metav1.CreateOptions{FieldValidation: "Strict"})
	fails(t, err, `strict decoding error: unknown field "spec.unknown"`)
	made, err := c.Create(ctx, object(t, crontab), metav1.CreateOptions{FieldValidation: "Ignore"})
	check(t, err)
	if n, _, _ := unstructured.NestedInt64(made.Object, "spec", "replicas"); n != 1 {
		t.Errorf("without its default: %v", made.Object["spec"])
	}
	wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w, err := c.Watch(wctx, metav1.ListOptions{ResourceVersion: made.GetResourceVersion(), AllowWatchBookmarks: true})
	check(t, err)
	defer w.Stop()

	want := object(t, `
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: a, namespace: default}
spec: {cronSpec: "* * * * */5", color: red}
`)
	_, err = c.Apply(ctx, "a", want, metav1.ApplyOptions{FieldManager: "one"})
	if !apierrors.IsConflict(err) {
		t.Error(err)
	}
	applied, err := c.Apply(ctx, "a", want, metav1.ApplyOptions{FieldManager: "one", Force: true})
	check(t, err)
	if color, _, _ := unstructured.NestedString(applied.Object, "spec", "color"); color != "red" {
		t.Errorf("got %v", applied.Object)
	}
	e := <-w.ResultChan()
	if u, ok := e.Object.(*unstructured.Unstructured); !ok || e.Type != watch.Modified || u.GetResourceVersion() != applied.GetResourceVersion() {
		t.Errorf("got %v", e)
	}
	want.Object["spec"].(map[string]any)["color"] = "black"
	_, err = c.Apply(ctx, "a", want, metav1.ApplyOptions{FieldManager: "one", Force: true})
	fails(t, err, "no black")
	list, err := c.List(ctx, metav1.ListOptions{})
	check(t, err)
	if len(list.Items) != 1 || list.Items[0].GetKind() != "CronTab" || list.GetKind() != "CronTabList" {
		t.Errorf("got %v", list)
	}
	check(t, c.Delete(ctx, "a", metav1.DeleteOptions{}))
	for media := range seen {
		if !strings.Contains(media, "cbor") && media != "" {
			t.Errorf("%s was spoken", media)
		}
	}
	if !seen["application/apply-patch+cbor"] || !seen["-> application/cbor-seq"] {
		t.Errorf("spoken: %v", seen)
	}
}
