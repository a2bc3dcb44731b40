package autoscaling

import (
	"slices"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

const scaled = "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}"

func TestRefusals(t *testing.T) {
	const metric, where = "spec: {" + scaled + ", maxReplicas: 3, metrics: [{", "spec.metrics[0]"
	for text, want := range map[string][]string{
		"spec: {" + scaled + ", maxReplicas: 3}":                                         nil,
		"spec: {" + scaled + "}":                                                         {"spec.maxReplicas: Required value: must be set and greater than 0", "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"},
		"spec: {" + scaled + ", minReplicas: 4, maxReplicas: 3}":                         {"spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"},
		"spec: {" + scaled + ", minReplicas: -1, maxReplicas: 3}":                        {"spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"},
		"spec: {" + scaled + ", minReplicas: 0, maxReplicas: 3}":                         {"spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"},
		"spec: {maxReplicas: 3}":                                                         {"spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value"},
		metric + "}]}":                                                                   {where + ".type: Required value: must specify a metric source type"},
		metric + "type: Pods}]}":                                                         {where + ".pods: Required value: must populate information for the given metric source"},
		metric + "type: Resource, resource: {name: cpu, target: {type: Utilization}}}]}": {where + ".resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"},
		metric + "type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 0}}}]}": {where + ".resource.target.averageUtilization: Invalid value: 0: must be greater than 0"},
		"spec: {" + scaled + ", maxReplicas: 3, behavior: {scaleUp: {stabilizationWindowSeconds: 4000, policies: []}}}": {
			"spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600", "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy"},
	} {
		a := &autoscalingv2.HorizontalPodAutoscaler{}
		if err := yaml.UnmarshalStrict([]byte(text), a); err != nil {
			t.Fatal(err)
		}
		autoscalers.Default(a)
		var got []string
		for _, err := range autoscalers.Validate(a) {
			got = append(got, err.Error())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", text, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// What v2 can say survives being read and written by a client of v1.
func TestV1KeepsAll(t *testing.T) {
	text := `
metadata: {name: a, annotations: {mine: x}}
spec:
  ` + scaled + `
  minReplicas: 2
  maxReplicas: 9
  metrics:
  - {type: Object, object: {describedObject: {kind: Ingress, name: i, apiVersion: networking.k8s.io/v1}, metric: {name: rps, selector: {matchLabels: {a: b}}}, target: {type: Value, value: "5"}}}
  - {type: Pods, pods: {metric: {name: rps}, target: {type: AverageValue, averageValue: "10"}}}
  - {type: External, external: {metric: {name: q}, target: {type: AverageValue, averageValue: "30"}}}
  - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}
  - {type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 60}}}
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 30, selectPolicy: Min, tolerance: "0.1"}}
status:
  currentReplicas: 3
  desiredReplicas: 4
  conditions: [{type: AbleToScale, status: "True", reason: R, message: m}]
  currentMetrics:
  - {type: Resource, resource: {name: cpu, current: {averageUtilization: 20, averageValue: 20m}}}
  - {type: External, external: {metric: {name: q}, current: {value: "3", averageValue: "1"}}}
`
	a := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := yaml.UnmarshalStrict([]byte(text), a); err != nil {
		t.Fatal(err)
	}
	autoscalers.Default(a)
	before := a.DeepCopy()
	old := autoscalersV1.FromStored(a).(*autoscalingv1.HorizontalPodAutoscaler)
	if *old.Spec.TargetCPUUtilizationPercentage != 50 || *old.Status.CurrentCPUUtilizationPercentage != 20 || old.Annotations["mine"] != "x" || len(old.Annotations) != 5 {
		t.Errorf("v1: %+v", old)
	}
	back := autoscalersV1.ToStored(old).(*autoscalingv2.HorizontalPodAutoscaler)
	if !apiequality.Semantic.DeepEqual(a, before) {
		t.Error("the stored object was changed")
	}
	back.TypeMeta = before.TypeMeta
	if !apiequality.Semantic.DeepEqual(back, before) {
		got, _ := yaml.Marshal(back)
		want, _ := yaml.Marshal(before)
		t.Errorf("got %s\nwant %s", got, want)
	}
}
