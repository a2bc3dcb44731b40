package resource

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

func decode(t *testing.T, k *api.Kind, text string) api.Object {
	t.Helper()
	obj := k.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	k.Default(obj)
	return obj
}

func TestRefusals(t *testing.T) {
	request := func(text string) string {
		return "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c" + text + "}}]}}"
	}
	const exactly, slice = "spec.devices.requests[0].exactly.", "spec: {driver: d, pool: {name: p, resourceSliceCount: 1}, "
	for _, c := range []struct {
		kind *api.Kind
		text string
		want []string
	}{
		{resourceClaims, request(""), nil},
		{resourceClaims, "spec: {devices: {requests: [{name: r}]}}", []string{"spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"}},
		{resourceClaims, request(", allocationMode: All, count: 2"), []string{exactly + "count: Invalid value: 2: must not be specified when allocationMode is 'All'"}},
		{resourceClaims, request(", allocationMode: Some"), []string{exactly + `allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"`}},
		{resourceClaims, request(", selectors: [{}]"), []string{exactly + "selectors[0].cel: Required value"}},
		{resourceClaims, request(", selectors: [{cel: {expression: '1 + 1'}}]"), []string{exactly + `selectors[0].cel.expression: Invalid value: "1 + 1": must evaluate to bool or the unknown type, not int`}},
		{resourceClaims, request(`, selectors: [{cel: {expression: "device.capacity['a.b'].memory.compareTo(quantity('1Gi')) >= 0 && device.attributes['a.b'].?model.orValue('') == 'x'"}}]`), nil},
		{resourceClaims, "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}], constraints: [{requests: [s], matchAttribute: a.b/c}]}}", []string{
			`spec.devices.constraints[0].requests[0]: Invalid value: "s": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'`}},
		{resourceClaims, "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}], constraints: [{}]}}", []string{"spec.devices.constraints[0].matchAttribute: Required value"}},
		{resourceClaims, "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}, {name: r, exactly: {deviceClassName: c}}]}}", []string{`spec.devices.requests[1]: Duplicate value: {"name":"r","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1}}`}},
		{resourceSlices, slice + "nodeName: n}", nil},
		{resourceSlices, slice + "}", []string{"spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"}},
		{resourceSlices, slice + "nodeName: n, allNodes: true}", []string{"spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"}},
		{resourceSlices, slice + "allNodes: true, devices: [{name: a, attributes: {x: {}}}, {name: a, nodeName: n}]}", []string{
			"spec.devices[0].attributes[x]: Invalid value: \"\": must specify one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`",
			"spec.devices[1]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
			`spec.devices[1]: Duplicate value: "a"`}},
		{resourceSlices, slice + "allNodes: true, devices: [{name: a, attributes: {x: {version: 1.2}}}]}", []string{`spec.devices[0].attributes[x].version: Invalid value: "1.2": must be a string compatible with semver.org spec 2.0.0`}},
		{deviceClasses, "spec: {config: [{}]}", []string{"spec.config[0].opaque: Required value"}},
		{deviceClasses, "spec: {config: [{opaque: {driver: d, parameters: [1]}}]}", []string{`spec.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object`}},
		{deviceTaintRules, "spec: {taint: {key: a}}", []string{"spec.taint.effect: Required value"}},
	} {
		text := strings.Replace(c.text, "version: 1.2}", `version: "1.2"}`, 1)
		var got []string
		for _, err := range c.kind.Validate(decode(t, c.kind, text)) {
			got = append(got, err.Error())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %s:\n got %s\nwant %s", c.kind.Kind, c.text, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

// The status of devices goes with their allocation; an allocation stays as it is.
func TestClaimStatus(t *testing.T) {
	const spec = "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}\n"
	const device = "allocation: {devices: {results: [{request: r, driver: d, pool: p, device: a}]}}"
	const other = "allocation: {devices: {results: [{request: r, driver: d, pool: p, device: b}]}}"
	const told = "devices: [{driver: d, pool: p, device: a}]"
	for _, c := range []struct{ old, now, want string }{
		{"", device + ", " + told, ""},
		{device, other, "status.allocation"},
		{device + ", " + told, told, ""}, // given back: what was said of it is dropped
		{"", told, "status.devices[0]"},
		{"", "reservedFor: [{resource: pods, name: p, uid: u}]", "status.reservedFor"},
	} {
		old := decode(t, resourceClaims, spec+"status: {"+c.old+"}")
		now := decode(t, resourceClaims, spec+"status: {"+c.now+"}")
		resourceClaims.PrepareStatus(now, old)
		var got []string
		for _, err := range resourceClaims.ValidateStatus(now, old) {
			got = append(got, err.Field)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s -> %s: %v, want %q", c.old, c.now, got, c.want)
		}
	}
}
