package apiserver_test

import (
	"encoding/json"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWebhookChangesAndDefaultsFollow(t *testing.T) {
	h := newHooked(t)
	h.on("/add", patched(`[{"op":"add","path":"/spec/initContainers","value":[{"name":"added","image":"x"}]}]`))
	port := int32(443)
	h.mutating(t, "add", "/add", rule("", "v1", "pods", "CREATE"), func(w *registrationv1.MutatingWebhook) {
		path := "/add"
		w.ClientConfig = registrationv1.WebhookClientConfig{CABundle: h.ca, Service: &registrationv1.ServiceReference{Namespace: "default", Name: "hook", Port: &port, Path: &path}}
	})
	pods := h.typed("root").CoreV1().Pods("default")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}}
	_, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	wantError(t, err, `Internal error occurred: failed calling webhook "add.example.com": failed to call webhook: Post "https://hook.default.svc:443/add?timeout=10s": `, `service "hook" not found`)
	h.behind = true
	made, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Spec.InitContainers) != 1 || made.Spec.InitContainers[0].TerminationMessagePolicy != corev1.TerminationMessageReadFile {
		t.Errorf("got %+v", made.Spec.InitContainers)
	}
}

func TestWebhookIsAskedAgain(t *testing.T) {
	h := newHooked(t)
	again := registrationv1.IfNeededReinvocationPolicy
	h.on("/first", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var m corev1.ConfigMap
		if json.Unmarshal(q.Object.Raw, &m) == nil && m.Data["second"] != "" {
			return patched(`[{"op":"add","path":"/data/first","value":"saw it"}]`)(q)
		}
		return allow(q)
	})
	h.on("/second", patched(`[{"op":"add","path":"/data/second","value":"was here"}]`))
	h.mutating(t, "a", "/first", rule("", "*", "configmaps", "*"), func(w *registrationv1.MutatingWebhook) { w.ReinvocationPolicy = &again })
	h.mutating(t, "b", "/second", rule("*", "*", "*/*", "CREATE"))
	made, err := h.typed("root").CoreV1().ConfigMaps("default").Create(t.Context(), plainMap("m"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Data["first"] != "saw it" || made.Data["second"] != "was here" {
		t.Errorf("got %v", made.Data)
	}
	if len(h.asked) != 3 {
		t.Errorf("asked %d times", len(h.asked))
	}
}

func TestWebhookFailures(t *testing.T) {
	h := newHooked(t)
	ended := make(chan struct{})
	defer close(ended)
	h.on("/slow", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
		}
		return allow(q)
	})
	one, ignore := int32(1), registrationv1.Ignore
	h.validating(t, "slow", "/slow", rule("", "v1", "configmaps", "CREATE"), func(w *registrationv1.ValidatingWebhook) { w.TimeoutSeconds = &one })
	maps := h.typed("root").CoreV1().ConfigMaps("default")
	_, err := maps.Create(t.Context(), plainMap("m"), metav1.CreateOptions{})
	wantError(t, err, `failed calling webhook "slow.example.com"`, "/slow?timeout=1s", "context deadline exceeded")
	all := h.typed("root").AdmissionregistrationV1().ValidatingWebhookConfigurations()
	c, err := all.Get(t.Context(), "slow", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Webhooks[0].FailurePolicy = &ignore
	if _, err := all.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(t.Context(), plainMap("m"), metav1.CreateOptions{}); err != nil {
		t.Errorf("a failure that is ignored: %v", err)
	}
	h.validating(t, "gone", "/nowhere", rule("", "v1", "configmaps", "DELETE"))
	wantError(t, maps.Delete(t.Context(), "m", metav1.DeleteOptions{}), "failed to call webhook: the server could not find the requested resource")
}

func TestWebhookSeesSubresources(t *testing.T) {
	h := newHooked(t)
	c, two := h.typed("root"), int32(2)
	labels := map[string]string{"a": "b"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &two,
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}}}}
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.on("/scale", patched(`[{"op":"replace","path":"/spec/replicas","value":5}]`))
	h.mutating(t, "scale", "/scale", rule("apps", "v1", "deployments/scale", "UPDATE"))
	scaled, err := c.AppsV1().Deployments("default").UpdateScale(t.Context(), "d", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q := h.last(t)
	if scaled.Spec.Replicas != 5 || q.Kind.Kind != "Scale" || q.SubResource != "scale" || q.Resource.Resource != "deployments" {
		t.Errorf("scaled to %d, asked about %v %v/%s", scaled.Spec.Replicas, q.Kind, q.Resource, q.SubResource)
	}
	h.on("/attach", deny("attaching to pod is not allowed"))
	h.validating(t, "attach", "/attach", rule("", "v1", "pods/attach", "CONNECT"))
	answer := h.do("POST", "/api/v1/namespaces/default/pods/p/attach?stdin=1&container=c", "")
	if answer.code != 400 {
		t.Errorf("got %d: %s", answer.code, answer.body)
	}
	q = h.last(t)
	var o corev1.PodAttachOptions
	if err := json.Unmarshal(q.Object.Raw, &o); err != nil || q.Operation != "CONNECT" || q.Kind.Kind != "PodAttachOptions" || !o.Stdin || o.Container != "c" || q.Name != "p" {
		t.Errorf("asked %+v %s: %v", q, q.Object.Raw, err)
	}
}

// A rule for one version is asked about the object in it, whatever version the client speaks.
func TestWebhookGetsItsVersion(t *testing.T) {
	h := newHooked(t)
	h.on("/events", patched(`[{"op":"replace","path":"/note","value":"changed"}]`))
	h.mutating(t, "events", "/events", rule("events.k8s.io", "v1", "events", "CREATE"))
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}, Reason: "Test", Message: "text", Type: "Normal"}
	made, err := h.typed("root").CoreV1().Events("default").Create(t.Context(), e, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q := h.last(t)
	if made.Message != "changed" || q.Kind.Group != "events.k8s.io" || q.RequestKind.Group != "" {
		t.Errorf("got %q, asked about %v for %v", made.Message, q.Kind, q.RequestKind)
	}
}

func TestWebhookConfigurationsAreNotAsked(t *testing.T) {
	h := newHooked(t)
	h.on("/deny", deny("no"))
	h.validating(t, "all", "/deny", rule("*", "*", "*/*", "*"))
	c := h.typed("root").AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if err := c.Delete(t.Context(), "all", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}
