package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Gates switch features that Kubernetes does not have on by default; the zero value is its default.
// It is the value of a flag, in the form Name=true,Other=false.
type Gates struct {
	// CBOR has the API speak CBOR beside JSON, YAML and protobuf. What is stored stays as it is.
	CBOR bool
}

// gates are all that there are, under the names and stages that they have in Kubernetes.
var gates = []struct {
	name, stage, does string
	of                func(*Gates) *bool
}{
	{"CBORServingAndStorage", "ALPHA", "clients may send and ask for CBOR", func(g *Gates) *bool { return &g.CBOR }},
}

// Set switches the gates that a text names; others stay.
func (g *Gates) Set(text string) error {
	next := *g
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		name, value, _ := strings.Cut(one, "=")
		on, err := strconv.ParseBool(strings.TrimSpace(value))
		if err != nil {
			return fmt.Errorf("feature gate %s must be %[1]s=true or %[1]s=false, not %q", strings.TrimSpace(name), one)
		}
		field := next.find(strings.TrimSpace(name))
		if field == nil {
			return fmt.Errorf("unknown feature gate %s; there are: %s", name, strings.Join(gateNames(), ", "))
		}
		*field = on
	}
	*g = next
	return nil
}

func (g *Gates) find(name string) *bool {
	for _, known := range gates {
		if known.name == name {
			return known.of(g)
		}
	}
	return nil
}

// String names the gates that are on.
func (g *Gates) String() string {
	var on []string
	for _, known := range gates {
		if *known.of(g) {
			on = append(on, known.name+"=true")
		}
	}
	return strings.Join(on, ",")
}

// Type is what a flag's help calls the value.
func (*Gates) Type() string { return "Name=true,..." }

// GateHelp says which gates there are.
func GateHelp() string {
	var all []string
	for _, known := range gates {
		all = append(all, fmt.Sprintf("%s (%s: %s)", known.name, strings.ToLower(known.stage), known.does))
	}
	return strings.Join(all, ", ")
}

func gateNames() []string {
	var all []string
	for _, known := range gates {
		all = append(all, known.name)
	}
	return all
}

// collector shows the gates as metrics.
func (g *Gates) collector() prometheus.Collector {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubernetes_feature_enabled", Help: "[BETA] This metric records the data about the stage and enablement of a k8s feature.",
	}, []string{"name", "stage"})
	for _, known := range gates {
		on := 0.0
		if *known.of(g) {
			on = 1
		}
		v.WithLabelValues(known.name, known.stage).Set(on)
	}
	return v
}
