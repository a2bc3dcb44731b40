package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// notOnWindows refuses what only Linux has, in a pod that says that it is for Windows.
func notOnWindows(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	if s.OS == nil || s.OS.Name != corev1.Windows {
		return nil
	}
	var errs field.ErrorList
	forbid := func(set bool, at *field.Path, name string) {
		if set {
			errs = append(errs, field.Forbidden(at.Child(name), "cannot be set for a windows pod"))
		}
	}
	if c, at := s.SecurityContext, path.Child("securityContext"); c != nil {
		forbid(c.AppArmorProfile != nil, at, "appArmorProfile")
		forbid(c.SELinuxOptions != nil, at, "seLinuxOptions")
		forbid(c.SeccompProfile != nil, at, "seccompProfile")
		forbid(c.FSGroup != nil, at, "fsGroup")
		forbid(c.FSGroupChangePolicy != nil, at, "fsGroupChangePolicy")
		forbid(len(c.Sysctls) > 0, at, "sysctls")
		forbid(c.RunAsUser != nil, at, "runAsUser")
		forbid(c.RunAsGroup != nil, at, "runAsGroup")
		forbid(c.SupplementalGroups != nil, at, "supplementalGroups")
		forbid(c.SupplementalGroupsPolicy != nil, at, "supplementalGroupsPolicy")
		forbid(c.SELinuxChangePolicy != nil, at, "seLinuxChangePolicy")
	}
	forbid(s.HostUsers != nil, path, "hostUsers")
	forbid(s.HostPID, path, "hostPID")
	forbid(s.HostIPC, path, "hostIPC")
	forbid(s.ShareProcessNamespace != nil, path, "shareProcessNamespace")
	container := func(c *corev1.SecurityContext, at *field.Path) {
		if c == nil {
			return
		}
		at = at.Child("securityContext")
		forbid(c.AppArmorProfile != nil, at, "appArmorProfile")
		forbid(c.SELinuxOptions != nil, at, "seLinuxOptions")
		forbid(c.SeccompProfile != nil, at, "seccompProfile")
		forbid(c.Capabilities != nil, at, "capabilities")
		forbid(c.ReadOnlyRootFilesystem != nil, at, "readOnlyRootFilesystem")
		forbid(c.Privileged != nil, at, "privileged")
		forbid(c.AllowPrivilegeEscalation != nil, at, "allowPrivilegeEscalation")
		forbid(c.ProcMount != nil, at, "procMount")
		forbid(c.RunAsUser != nil, at, "runAsUser")
		forbid(c.RunAsGroup != nil, at, "runAsGroup")
	}
	for i := range s.InitContainers {
		container(s.InitContainers[i].SecurityContext, path.Child("initContainers").Index(i))
	}
	for i := range s.Containers {
		container(s.Containers[i].SecurityContext, path.Child("containers").Index(i))
	}
	for i := range s.EphemeralContainers {
		container(s.EphemeralContainers[i].SecurityContext, path.Child("ephemeralContainers").Index(i))
	}
	return errs
}
