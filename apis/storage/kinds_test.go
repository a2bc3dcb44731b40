package storage

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

func decode(t *testing.T, k *api.Kind, text string) api.Object {
	t.Helper()
	obj := k.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	k.Default(obj)
	return obj
}

func compare(t *testing.T, what string, errs field.ErrorList, want []string) {
	t.Helper()
	var got []string
	for _, err := range errs {
		got = append(got, err.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		kind *api.Kind
		text string
		want []string
	}{
		{storageClasses, "{provisioner: Example.com/P}", nil},
		{storageClasses, "{}", []string{"provisioner: Required value"}},
		{storageClasses, "{provisioner: p, reclaimPolicy: Recycle}", []string{`reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"`}},
		{storageClasses, "{provisioner: p, volumeBindingMode: Later}", []string{`volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"`}},
		{storageClasses, "{provisioner: p, allowedTopologies: [{matchLabelExpressions: [{key: zone, values: []}]}]}", []string{"allowedTopologies[0].matchLabelExpressions[0].values: Required value"}},
		{volumeAttributesClasses, "{driverName: d}", []string{"parameters: Required value: must contain at least one key/value pair"}},
		{csiNodes, "{spec: {drivers: [{name: d, nodeID: n, topologyKeys: [a]}, {name: d, nodeID: n, topologyKeys: []}]}}", []string{`spec.drivers[1].name: Duplicate value: "d"`}},
		{csiDrivers, "{metadata: {name: d}, spec: {tokenRequests: [{audience: a, expirationSeconds: 1}, {audience: a}]}}", []string{
			"spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes", `spec.tokenRequests[1].audience: Duplicate value: "a"`}},
		{csiDrivers, "{metadata: {name: d}, spec: {fsGroupPolicy: Odd}}", []string{`spec.fsGroupPolicy: Unsupported value: "Odd": supported values: "File", "None", "ReadWriteOnceWithFSType"`}},
		{volumeAttachments, "{spec: {attacher: a, nodeName: n, source: {}}}", []string{"spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"}},
		{volumeAttachments, `{spec: {attacher: a, nodeName: n, source: {persistentVolumeName: ""}}}`, []string{"spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName"}},
	} {
		obj := decode(t, c.kind, c.text)
		errs := c.kind.Validate(obj)
		if len(errs) == 0 {
			errs = c.kind.ValidateCreate(obj)
		}
		compare(t, c.kind.Kind+" "+c.text, errs, c.want)
	}
}

func TestWhatMayChange(t *testing.T) {
	const fixed = "field is immutable"
	for _, c := range []struct {
		kind          *api.Kind
		old, now, err string
	}{
		{storageClasses, "{provisioner: p}", "{provisioner: p, allowVolumeExpansion: true, mountOptions: [ro]}", ""},
		{storageClasses, "{provisioner: p}", "{provisioner: q}", `provisioner: Invalid value: null: ` + fixed},
		{storageClasses, "{provisioner: p}", "{provisioner: p, parameters: {a: b}}", `parameters: Invalid value: null: ` + fixed},
		{volumeAttributesClasses, "{driverName: d, parameters: {a: b}}", "{driverName: d, parameters: {a: c}}", "parameters: Forbidden: updates to parameters are forbidden."},
		{csiDrivers, "{spec: {}}", "{spec: {podInfoOnMount: true}}", ""},
		{csiDrivers, "{spec: {}}", "{spec: {attachRequired: false}}", "spec.attachedRequired: Invalid value: false: " + fixed},
		{csiNodes, "{spec: {drivers: [{name: d, nodeID: n, topologyKeys: [a]}]}}", "{spec: {drivers: [{name: e, nodeID: n, topologyKeys: [a]}]}}", ""},
		{csiNodes, "{spec: {drivers: [{name: d, nodeID: n, topologyKeys: [a]}]}}", "{spec: {drivers: [{name: d, nodeID: n, topologyKeys: [a], allocatable: {count: 3}}]}}", ""},
	} {
		errs := c.kind.ValidateUpdate(decode(t, c.kind, c.now), decode(t, c.kind, c.old))
		var want []string
		if c.err != "" {
			want = []string{c.err}
		}
		compare(t, c.kind.Kind+" "+c.now, errs, want)
	}
}
