package apiextensions

import (
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

var columns = []api.Column[*Definition]{
	{Name: "Scope", Description: "Cluster/Namespaced", Value: func(d *Definition) any { return string(d.Spec.Scope) }},
	{Name: "Versions", Description: "Served versions", Value: func(d *Definition) any { return servedVersions(d) }},
	{
		Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Value: func(d *Definition) any { return d.CreationTimestamp.UTC().Format(time.RFC3339) },
	},
	{Name: "Group", Priority: 1, Description: "API group", Value: func(d *Definition) any { return d.Spec.Group }},
	{Name: "Kind", Priority: 1, Description: "CustomResource kind", Value: func(d *Definition) any { return d.Spec.Names.Kind }},
	{Name: "ShortNames", Priority: 1, Description: "Short names", Value: func(d *Definition) any { return strings.Join(d.Spec.Names.ShortNames, ",") }},
	{
		Name: "Established", Type: "boolean", Priority: 1, Description: "Established status",
		Value: func(d *Definition) any { return IsTrue(d, apiextensionsv1.Established) },
	},
}

// servedVersions names the versions that are served, and marks the one that is stored.
func servedVersions(d *Definition) string {
	var names []string
	for _, v := range d.Spec.Versions {
		switch {
		case v.Served && v.Storage:
			names = append(names, v.Name+"(storage)")
		case v.Served:
			names = append(names, v.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}
