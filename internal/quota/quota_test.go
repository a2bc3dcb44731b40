package quota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func TestOf(t *testing.T) {
	for name, want := range map[corev1.ResourceName]string{
		"pods": "pods", "count/pods": "pods", "cpu": "pods", "limits.memory": "pods", "requests.example.com/gpu": "pods",
		"hugepages-2Mi": "pods", "requests.hugepages-2Mi": "pods", "services.nodeports": "services",
		"requests.storage": "persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.storage": "persistentvolumeclaims",
		"count/deployments.apps": "deployments.apps", "count/foos.example.com": "foos.example.com",
		"gpu.deviceclass.resource.k8s.io/devices": "resourceclaims.resource.k8s.io",
		"example.com/gpu":                         "", "limits.example.com/gpu": "", "bogus": "", "count/": "",
	} {
		got, ok := Of(name)
		if ok != (want != "") || ok && got != schema.ParseGroupResource(want) {
			t.Errorf("%s is used by %q (%v), want %q", name, got, ok, want)
		}
	}
}

func TestUsage(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	gone, grace, off, gold := metav1.NewTime(now.Add(-time.Second)), int64(1), false, "gold"
	pod := func(edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: list("cpu", "500m", "example.com/gpu", "2"), Limits: list("memory", "1Gi"),
		}}}}}
		edit(p)
		return p
	}
	for name, c := range map[string]struct {
		of   schema.GroupResource
		obj  any
		want string
	}{
		"pod":       {Pods, pod(func(*corev1.Pod) {}), "count/pods=1,cpu=500m,limits.memory=1Gi,pods=1,requests.cpu=500m,requests.example.com/gpu=2"},
		"ended":     {Pods, pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), "count/pods=1"},
		"long gone": {Pods, pod(func(p *corev1.Pod) { p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &gone, &grace }), "count/pods=1"},
		"secret":    {schema.GroupResource{Resource: "secrets"}, &corev1.Secret{}, "count/secrets=1,secrets=1"},
		"custom":    {schema.GroupResource{Group: "example.com", Resource: "foos"}, nil, "count/foos.example.com=1"},
		"load balancer": {Services, &corev1.Service{Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &off, Ports: []corev1.ServicePort{{NodePort: 30000}, {}},
		}}, "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"},
		"claim": {Claims, &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &gold, Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "1Gi")},
		}}, "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1," +
			"gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"},
	} {
		if got := Text(Usage(c.of, c.obj, now)); got != c.want {
			t.Errorf("%s uses %s, want %s", name, got, c.want)
		}
	}
}

func TestInScope(t *testing.T) {
	second := int64(1)
	classed := &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "high"}}
	for name, c := range map[string]struct {
		scope  corev1.ResourceQuotaScope
		op     corev1.ScopeSelectorOperator
		values []string
		pod    *corev1.Pod
		want   bool
	}{
		"in":            {corev1.ResourceQuotaScopePriorityClass, corev1.ScopeSelectorOpIn, []string{"high"}, classed, true},
		"not in":        {corev1.ResourceQuotaScopePriorityClass, corev1.ScopeSelectorOpNotIn, []string{"high"}, classed, false},
		"no class":      {corev1.ResourceQuotaScopePriorityClass, corev1.ScopeSelectorOpExists, nil, &corev1.Pod{}, false},
		"best effort":   {corev1.ResourceQuotaScopeBestEffort, corev1.ScopeSelectorOpExists, nil, &corev1.Pod{}, true},
		"terminating":   {corev1.ResourceQuotaScopeTerminating, corev1.ScopeSelectorOpExists, nil, &corev1.Pod{Spec: corev1.PodSpec{ActiveDeadlineSeconds: &second}}, true},
		"never ending":  {corev1.ResourceQuotaScopeTerminating, corev1.ScopeSelectorOpExists, nil, &corev1.Pod{}, false},
		"no affinity":   {corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ScopeSelectorOpExists, nil, &corev1.Pod{}, false},
		"foreign scope": {corev1.ResourceQuotaScopeVolumeAttributesClass, corev1.ScopeSelectorOpExists, nil, &corev1.Pod{}, false},
	} {
		q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{ScopeSelector: &corev1.ScopeSelector{
			MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: c.scope, Operator: c.op, Values: c.values}},
		}}}
		if got := InScope(q, Pods, c.pod); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
