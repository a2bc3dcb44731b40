package patch

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/proa-dev/proa/apis/api"
)

var podKind = api.Define(api.Resource[*corev1.Pod]{Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true, HasStatus: true})
var mapKind = api.Define(api.Resource[*corev1.ConfigMap]{Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Namespaced: true})

func fieldsOf(t testing.TB, kind *api.Kind) *Fields {
	t.Helper()
	f, err := NewFields(kind, scheme.Scheme)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// aPod is one of about 3 KB of JSON.
func aPod() *corev1.Pod {
	pod := podKind.New().(*corev1.Pod)
	pod.Name, pod.Namespace, pod.UID = "web-7d4b9c6f5-x2x9k", "default", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	pod.Labels = map[string]string{"app": "web", "pod-template-hash": "7d4b9c6f5", "tier": "front"}
	pod.Annotations = map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-7d4b9c6f5", UID: "x"}}
	for i := range 2 {
		c := corev1.Container{
			Name: fmt.Sprintf("c%d", i), Image: "registry.example.com/team/web:1.2.3", Command: []string{"/bin/web"}, Args: []string{"--listen", ":8080", "--verbose"},
			Ports:                  []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: "TCP"}},
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: "File", ImagePullPolicy: "IfNotPresent",
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080), Scheme: "HTTP"}},
				TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3},
		}
		for e := range 6 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", e), Value: "some value or other"})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, {Name: "token", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "token"}}}}
	pod.Spec.RestartPolicy, pod.Spec.DNSPolicy, pod.Spec.SchedulerName = "Always", "ClusterFirst", "default-scheduler"
	pod.Spec.Tolerations = []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"}, {Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute"}}
	return pod
}

func aMap() *corev1.ConfigMap {
	m := mapKind.New().(*corev1.ConfigMap)
	m.Name, m.Namespace, m.UID = "settings", "default", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	m.Data = map[string]string{}
	for i := range 4 {
		m.Data[fmt.Sprintf("key%d", i)] = strings.Repeat("abcdefgh", 28)
	}
	return m
}

func BenchmarkWritten(b *testing.B) {
	for _, c := range []struct {
		name   string
		kind   *api.Kind
		obj    api.Object
		change func(api.Object)
	}{
		{"pod", podKind, aPod(), func(o api.Object) { o.(*corev1.Pod).Spec.NodeName = "node1" }},
		{"configmap", mapKind, aMap(), func(o api.Object) { o.(*corev1.ConfigMap).Data["key0"] = "new" }},
	} {
		f := fieldsOf(b, c.kind)
		data, _ := json.Marshal(c.obj)
		b.Logf("%s: %d bytes", c.name, len(data))
		created, err := f.Written(nil, c.obj.DeepCopyObject().(api.Object), "kubectl", "")
		if err != nil {
			b.Fatal(err)
		}
		changed := created.DeepCopyObject().(api.Object)
		c.change(changed)
		run := func(name string, live, obj api.Object, manager string) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					obj.SetManagedFields(created.GetManagedFields())
					if _, err := f.Written(live, obj, manager, ""); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		fresh := c.obj.DeepCopyObject().(api.Object)
		b.Run(c.name+"/create", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fresh.SetManagedFields(nil)
				if _, err := f.Written(nil, fresh, "kubectl", ""); err != nil {
					b.Fatal(err)
				}
			}
		})
		run("update", created, changed, "kubectl")
		run("update-other", created, changed, "another")
		run("same", created, created.DeepCopyObject().(api.Object), "kubectl")
	}
}

// BenchmarkStatus is what a kubelet's report of a pod costs, and its share of ownership.
func BenchmarkStatus(b *testing.B) {
	f := fieldsOf(b, podKind)
	created, err := f.Written(nil, aPod(), "kube-controller-manager", "")
	if err != nil {
		b.Fatal(err)
	}
	bodies := [2][]byte{}
	for i, phase := range []string{"Pending", "Running"} {
		bodies[i] = fmt.Appendf(nil, `{"status":{"phase":%q,"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:0%dZ"},{"type":"PodScheduled","status":"True"}],"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],"containerStatuses":[{"name":"c0","ready":true,"restartCount":%d,"image":"i","imageID":"j"}]}}`, phase, i, i)
	}
	live := created
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		obj, _, err := Strategic(podKind, live, bodies[i%2], "Ignore")
		if err != nil {
			b.Fatal(err)
		}
		if live, err = f.Written(live, obj, "kubelet", "status"); err != nil {
			b.Fatal(err)
		}
	}
}
