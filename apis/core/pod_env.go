package core

import (
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateContainerPorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range ports {
		port, p := &ports[i], path.Index(i)
		if port.Name != "" {
			errs = append(errs, invalid(p.Child("name"), port.Name, validation.IsValidPortName(port.Name))...)
			if names[port.Name] {
				errs = append(errs, field.Duplicate(p.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(p.Child("containerPort"), ""))
		} else {
			errs = append(errs, portNumber(port.ContainerPort, p.Child("containerPort"))...)
		}
		if port.HostPort != 0 {
			errs = append(errs, portNumber(port.HostPort, p.Child("hostPort"))...)
		}
		errs = append(errs, given(port.Protocol, p.Child("protocol"), protocols...)...)
		if port.HostIP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(p.Child("hostIP"), port.HostIP, false, nil)...)
		}
	}
	return errs
}

func validateEnv(vars []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range vars {
		v, p := &vars[i], path.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(p.Child("name"), ""))
		} else {
			errs = append(errs, invalid(p.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))...)
		}
		if v.ValueFrom != nil {
			errs = append(errs, validateEnvSource(v, p.Child("valueFrom"))...)
		}
	}
	return errs
}

var (
	envFields    = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}
	volumeFields = []string{"metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"}
	resourceRefs = regexp.MustCompile(`^(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)$`)
	subscripted  = regexp.MustCompile(`^metadata\.(labels|annotations)\['(.+)'\]$`)
)

func validateEnvSource(v *corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	from, n := v.ValueFrom, 0
	if from.FieldRef != nil {
		n++
		errs = append(errs, validateFieldRef(from.FieldRef, envFields, path.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		n++
		errs = append(errs, validateResourceRef(from.ResourceFieldRef, false, path.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		n++
		errs = append(errs, validateKeyRef(r.Name, r.Key, path.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		n++
		errs = append(errs, validateKeyRef(r.Name, r.Key, path.Child("secretKeyRef"))...)
	}
	if r := from.FileKeyRef; r != nil {
		n++
		p := path.Child("fileKeyRef")
		errs = append(errs, required(r.VolumeName, p.Child("volumeName"), "")...)
		errs = append(errs, required(r.Key, p.Child("key"), "")...)
		errs = append(errs, required(r.Path, p.Child("path"), "")...)
		errs = append(errs, localPath(r.Path, p.Child("path"))...)
	}
	switch {
	case n == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case n > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, path *field.Path) field.ErrorList {
	errs := required(name, path.Child("name"), "")
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, invalid(path.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func validateFieldRef(r *corev1.ObjectFieldSelector, allowed []string, path *field.Path) field.ErrorList {
	p := path.Child("fieldPath")
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	if m := subscripted.FindStringSubmatch(r.FieldPath); m != nil {
		return invalid(p, m[2], validation.IsQualifiedName(m[2]))
	}
	if slices.Contains(allowed, r.FieldPath) {
		return nil
	}
	if slices.Contains(envFields, r.FieldPath) || slices.Contains(volumeFields, r.FieldPath) {
		return field.ErrorList{field.NotSupported(p, r.FieldPath, allowed)}
	}
	return field.ErrorList{field.Invalid(p, r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)}
}

func validateResourceRef(r *corev1.ResourceFieldSelector, volume bool, path *field.Path) field.ErrorList {
	if volume && r.ContainerName == "" {
		return field.ErrorList{field.Required(path.Child("containerName"), "")}
	}
	if r.Resource == "" {
		return field.ErrorList{field.Required(path.Child("resource"), "")}
	}
	if !resourceRefs.MatchString(r.Resource) {
		return field.ErrorList{field.NotSupported(path.Child("resource"), r.Resource, []string{
			"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
		})}
	}
	return nil
}

func validateEnvFrom(list []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range list {
		e, p := &list[i], path.Index(i)
		if e.Prefix != "" {
			errs = append(errs, invalid(p.Child("prefix"), e.Prefix, validation.IsRelaxedEnvVarName(e.Prefix))...)
		}
		switch {
		case e.ConfigMapRef != nil && e.SecretRef != nil:
			errs = append(errs, field.Invalid(p, "", "may not have more than one field specified at a time"))
		case e.ConfigMapRef != nil:
			errs = append(errs, required(e.ConfigMapRef.Name, p.Child("configMapRef", "name"), "")...)
		case e.SecretRef != nil:
			errs = append(errs, required(e.SecretRef.Name, p.Child("secretRef", "name"), "")...)
		default:
			errs = append(errs, field.Invalid(p, "", "must specify one of: `configMapRef` or `secretRef`"))
		}
	}
	return errs
}
