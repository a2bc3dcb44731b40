package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containerSet is what the containers of one pod must not have twice, and may refer to.
type containerSet struct {
	spec    *corev1.PodSpec
	volumes map[string]*corev1.Volume
	names   map[string]bool
	ports   map[string]bool // host ports
}

func validateContainers(s *corev1.PodSpec, volumes map[string]*corev1.Volume, path *field.Path) field.ErrorList {
	set := &containerSet{spec: s, volumes: volumes, names: map[string]bool{}, ports: map[string]bool{}}
	var errs field.ErrorList
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	for i := range s.Containers {
		c, p := &s.Containers[i], path.Child("containers").Index(i)
		errs = append(errs, set.container(c, p)...)
		errs = append(errs, set.hostPorts(c, p.Child("ports"))...)
		errs = append(errs, validateLifecycle(c.Lifecycle, p.Child("lifecycle"))...)
		errs = append(errs, validateProbes(c, p)...)
	}
	for i := range s.InitContainers {
		c, p := &s.InitContainers[i], path.Child("initContainers").Index(i)
		errs = append(errs, set.container(c, p)...)
		if isSidecar(c) {
			errs = append(errs, validateLifecycle(c.Lifecycle, p.Child("lifecycle"))...)
			errs = append(errs, validateProbes(c, p)...)
			continue
		}
		errs = append(errs, notForInit(c, p)...)
	}
	for i := range s.EphemeralContainers {
		errs = append(errs, set.ephemeral(&s.EphemeralContainers[i], path.Child("ephemeralContainers").Index(i))...)
	}
	return errs
}

// notForInit refuses what only containers that keep running may have.
func notForInit(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct {
		name string
		set  bool
	}{
		{"lifecycle", c.Lifecycle != nil}, {"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil}, {"startupProbe", c.StartupProbe != nil},
	} {
		if part.set {
			errs = append(errs, field.Forbidden(path.Child(part.name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
	return errs
}

func (set *containerSet) container(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, dnsLabel(c.Name, path.Child("name"))...)
	}
	if set.names[c.Name] {
		errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
	}
	set.names[c.Name] = true
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	} else if strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, given(c.TerminationMessagePolicy, path.Child("terminationMessagePolicy"), corev1.TerminationMessageFallbackToLogsOnError, corev1.TerminationMessageReadFile)...)
	errs = append(errs, validateContainerPorts(c.Ports, path.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, path.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, path.Child("envFrom"))...)
	errs = append(errs, set.mounts(c, path)...)
	errs = append(errs, given(c.ImagePullPolicy, path.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validateResources(&c.Resources, path.Child("resources"))...)
	errs = append(errs, set.claims(c, path.Child("resources", "claims"))...)
	errs = append(errs, validateResizePolicy(c.ResizePolicy, path.Child("resizePolicy"))...)
	if c.RestartPolicy != nil {
		errs = append(errs, oneOf(*c.RestartPolicy, path.Child("restartPolicy"), corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	}
	if len(c.RestartPolicyRules) > 20 {
		errs = append(errs, field.TooMany(path.Child("restartPolicyRules"), len(c.RestartPolicyRules), 20))
	}
	return append(errs, validateSecurityContext(c.SecurityContext, set.spec, path.Child("securityContext"))...)
}

func (set *containerSet) ephemeral(e *corev1.EphemeralContainer, path *field.Path) field.ErrorList {
	c := corev1.Container(e.EphemeralContainerCommon)
	errs := set.container(&c, path)
	if e.TargetContainerName != "" && !set.has(e.TargetContainerName) {
		errs = append(errs, field.NotFound(path.Child("targetContainerName"), e.TargetContainerName))
	}
	for _, part := range []struct {
		name string
		set  bool
	}{
		{"ports", c.Ports != nil}, {"resources", len(c.Resources.Limits)+len(c.Resources.Requests) > 0},
		{"restartPolicy", c.RestartPolicy != nil}, {"livenessProbe", c.LivenessProbe != nil}, {"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil}, {"lifecycle", c.Lifecycle != nil},
	} {
		if part.set {
			errs = append(errs, field.Forbidden(path.Child(part.name), "cannot be set for an Ephemeral Container"))
		}
	}
	return errs
}

func (set *containerSet) has(name string) bool {
	for _, list := range [][]corev1.Container{set.spec.Containers, set.spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	return false
}

func (set *containerSet) hostPorts(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, port := range c.Ports {
		p := path.Index(i).Child("hostPort")
		if set.spec.HostNetwork && port.HostPort != 0 && port.HostPort != port.ContainerPort {
			errs = append(errs, field.Invalid(path.Index(i).Child("containerPort"), port.ContainerPort, "must match `hostPort` when `hostNetwork` is true"))
		}
		if port.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
		if set.ports[key] {
			errs = append(errs, field.Duplicate(p, key))
		}
		set.ports[key] = true
	}
	return errs
}

func (set *containerSet) mounts(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range c.VolumeMounts {
		m, p := &c.VolumeMounts[i], path.Child("volumeMounts").Index(i)
		if m.Name == "" {
			errs = append(errs, field.Required(p.Child("name"), ""))
		}
		if set.volumes[m.Name] == nil {
			errs = append(errs, field.NotFound(p.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(p.Child("mountPath"), ""))
		}
		if seen[m.MountPath] {
			errs = append(errs, field.Invalid(p.Child("mountPath"), m.MountPath, "must be unique"))
		}
		seen[m.MountPath] = true
		if m.SubPath != "" && m.SubPathExpr != "" {
			errs = append(errs, field.Invalid(p.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		errs = append(errs, localPath(m.SubPath, path.Child("volumeMounts", "subPath"))...)
		errs = append(errs, localPath(m.SubPathExpr, path.Child("volumeMounts", "subPathExpr"))...)
		if m.MountPropagation != nil {
			errs = append(errs, validatePropagation(*m.MountPropagation, c, p.Child("mountPropagation"))...)
		}
	}
	for i, d := range c.VolumeDevices {
		p := path.Child("volumeDevices").Index(i)
		if set.volumes[d.Name] == nil {
			errs = append(errs, field.NotFound(p.Child("name"), d.Name))
		}
		errs = append(errs, required(d.DevicePath, p.Child("devicePath"), "")...)
	}
	return errs
}

func validatePropagation(mode corev1.MountPropagationMode, c *corev1.Container, path *field.Path) field.ErrorList {
	errs := oneOf(mode, path, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
	if mode == corev1.MountPropagationBidirectional && !privileged {
		errs = append(errs, field.Forbidden(path, "Bidirectional mount propagation is available only to privileged containers"))
	}
	return errs
}

func (set *containerSet) claims(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, claim := range c.Resources.Claims {
		found := false
		for _, have := range set.spec.ResourceClaims {
			found = found || have.Name == claim.Name
		}
		if claim.Name == "" {
			errs = append(errs, field.Required(path.Index(i), ""))
		} else if !found {
			errs = append(errs, field.NotFound(path.Index(i), claim.Name))
		}
	}
	return errs
}

func validateResizePolicy(list []corev1.ContainerResizePolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, r := range list {
		errs = append(errs, given(r.ResourceName, path.Index(i), corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, given(r.RestartPolicy, path.Index(i), corev1.NotRequired, corev1.RestartContainer)...)
	}
	return errs
}
