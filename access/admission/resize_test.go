package admission

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asks is a pod's spec that asks for so much, for itself or for its container.
func asks(node, cpu, memory string, whole bool) corev1.PodSpec {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
	spec := corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	if whole {
		spec.Resources = &r
	} else {
		spec.Containers[0].Resources = r
	}
	return spec
}

func TestResizesThatNoNodeCanDo(t *testing.T) {
	r, c := newChain(t)
	for name, labels := range map[string]map[string]string{"small": {corev1.LabelOSStable: "linux"}, "other": {corev1.LabelOSStable: "windows"}, "able": nil} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi")}
		if name == "able" {
			node.Status.DeclaredFeatures = []string{"InPlacePodLevelResourcesVerticalScaling"}
		}
		r.Put(nodes, node)
	}
	for name, row := range map[string]struct {
		is          corev1.PodSpec
		sub         string
		want, cause string
	}{
		"what fits":             {is: asks("small", "2", "1Gi", false), sub: "resize"},
		"too much of both":      {is: asks("small", "3", "2Gi", false), sub: "resize", want: "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824", cause: "NodeCapacity"},
		"too much for the pod":  {is: asks("able", "3", "1Gi", true), sub: "resize", want: "cpu, requested: 3000", cause: "NodeCapacity"},
		"another system":        {is: asks("other", "1", "1Gi", false), sub: "resize", want: `pod resize is only supported on linux nodes, node "other" is "windows"`, cause: "UnsupportedPlatform"},
		"a node that is gone":   {is: asks("gone", "1", "1Gi", false), sub: "resize", want: `node "gone" not found`},
		"without a node":        {is: asks("", "9", "9Gi", false), sub: "resize"},
		"of the status":         {is: asks("small", "9", "9Gi", false), sub: "status"},
		"nothing changes":       {is: asks("small", "1", "9Mi", false), sub: "resize"},
		"pod level, undeclared": {is: asks("small", "1", "1Gi", true), sub: "resize", want: `pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node "small"`},
		"pod level, declared":   {is: asks("able", "1", "1Gi", true), sub: "resize"},
	} {
		is := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: row.is}
		was := is.DeepCopy()
		if was.Spec.Resources != nil {
			was.Spec.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("500m")
		} else if name != "nothing changes" {
			was.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
		}
		err := admit(t, c, &Attributes{Kind: podKind, Namespace: "ns", Name: "p", Operation: Update, Subresource: row.sub, Object: is, Old: was})
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
			continue
		}
		status := (*apierrors.StatusError)(nil)
		if row.cause != "" && (!errors.As(err, &status) || len(status.ErrStatus.Details.Causes) != 1 || string(status.ErrStatus.Details.Causes[0].Type) != row.cause) {
			t.Errorf("%s: %#v, want the cause %s", name, err, row.cause)
		}
	}
}

func TestPluginsOffByDefault(t *testing.T) {
	_, all := newChain(t)
	c, err := all.Switched([]string{"ExtendedResourceToleration", "LimitPodHardAntiAffinityTopology"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := corev1.ResourceList{"example.com/gpu": resource.MustParse("1"), "cpu": resource.MustParse("1"), "x.kubernetes.io/y": resource.MustParse("1")}
	a := createPod(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: one}}}}})
	if err := admit(t, c, a); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, toleration := range a.Object.(*corev1.Pod).Spec.Tolerations {
		if toleration.Effect == corev1.TaintEffectNoSchedule {
			got = append(got, toleration.Key+" "+string(toleration.Operator))
		}
	}
	if len(got) != 1 || got[0] != "example.com/gpu Exists" {
		t.Errorf("tolerations %q", got)
	}
	for key, refused := range map[string]bool{corev1.LabelHostname: false, corev1.LabelTopologyZone: true} {
		terms := []corev1.PodAffinityTerm{{TopologyKey: key}}
		pod := &corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}}}
		if err := admit(t, c, createPod(pod)); (err != nil) != refused {
			t.Errorf("anti-affinity by %s: %v", key, err)
		}
	}
}
