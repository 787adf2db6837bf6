package compose

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Check returns what of the following does not hold. Every image is pinned by a tag that
// is a version, those of Dockerfiles as well. What is mounted from the host exists, and
// is mounted read-only. Ports are those of the loopback address. No service runs as root,
// writes to its image, has a capability, can gain privileges, or can have all memory or
// all process ids. Volumes and services that are mentioned exist, and who waits for the
// health of another one waits for something that is asked for it.
func (f *File) Check() error {
	var errs []error
	for name, s := range f.Services {
		for _, err := range slices.Concat(f.confined(s), f.pinned(s), f.mounted(s), f.connected(s)) {
			errs = append(errs, fmt.Errorf("service %s: %w", name, err))
		}
	}
	used := make(map[string]bool)
	for _, s := range f.Services {
		for _, m := range s.Volumes {
			used[m.Source] = true
		}
	}
	for name := range f.Volumes {
		if !used[name] {
			errs = append(errs, fmt.Errorf("volume %s: nobody has it", name))
		}
	}
	if len(f.Services) == 0 {
		errs = append(errs, errors.New("there are no services"))
	}
	return errors.Join(errs...)
}

// user matches a user and a group by number, neither the user root.
var user = regexp.MustCompile(`^[1-9][0-9]*:[0-9]+$`)

// size matches an amount of memory.
var size = regexp.MustCompile(`^[1-9][0-9]*[kmg]$`)

func (f *File) confined(s Service) (errs []error) {
	if !user.MatchString(s.User) {
		errs = append(errs, fmt.Errorf("user is %q, want uid:gid of somebody but root", s.User))
	}
	if !s.ReadOnly {
		errs = append(errs, errors.New("read_only is not set"))
	}
	if !slices.Equal(s.CapDrop, []string{"ALL"}) {
		errs = append(errs, fmt.Errorf("cap_drop is %q, want ALL", s.CapDrop))
	}
	if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		errs = append(errs, fmt.Errorf("security_opt is %q, want no-new-privileges:true", s.SecurityOpt))
	}
	if !size.MatchString(s.MemLimit) {
		errs = append(errs, fmt.Errorf("mem_limit is %q, want a number of k, m or g", s.MemLimit))
	}
	if s.PidsLimit <= 0 {
		errs = append(errs, fmt.Errorf("pids_limit is %d, want more than 0", s.PidsLimit))
	}
	for _, t := range s.Tmpfs {
		if !strings.Contains(t, "size=") {
			errs = append(errs, fmt.Errorf("tmpfs %s has no size", t))
		}
	}
	return errs
}

// tag matches the tag of an image that is a version, with or without a digest, or the
// word for an image that is built here.
var (
	tag   = regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9]+\.[0-9]+\.[0-9]+(@sha256:[0-9a-f]{64})?$`)
	built = regexp.MustCompile(`^[a-z0-9./-]+:dev$`)
	from  = regexp.MustCompile(`(?m)^FROM +(\S+)`)
)

// scratch is the image with nothing in it, which needs no version.
const scratch = "scratch"

func (f *File) pinned(s Service) (errs []error) {
	if s.Build == nil {
		if !tag.MatchString(s.Image) {
			errs = append(errs, fmt.Errorf("image %q is not pinned to a version", s.Image))
		}
		return errs
	}
	if !built.MatchString(s.Image) {
		errs = append(errs, fmt.Errorf("image %q is built here, want the tag dev", s.Image))
	}
	path := filepath.Join(f.Path(s.Build.Context), s.Build.Dockerfile)
	content, err := os.ReadFile(path)
	if err != nil {
		return append(errs, err)
	}
	stages := from.FindAllStringSubmatch(string(content), -1)
	if len(stages) == 0 {
		errs = append(errs, fmt.Errorf("%s has no FROM", path))
	}
	for _, stage := range stages {
		image, err := Expand(stage[1], func(string) (string, bool) { return "", false })
		if err != nil {
			errs = append(errs, err)
		}
		if image != scratch && !tag.MatchString(image) {
			errs = append(errs, fmt.Errorf("%s: image %q is not pinned to a version", path, stage[1]))
		}
	}
	return errs
}

func (f *File) mounted(s Service) (errs []error) {
	for _, m := range s.Volumes {
		if !m.Bind() {
			if _, known := f.Volumes[m.Source]; !known {
				errs = append(errs, fmt.Errorf("volume %s is not declared", m.Source))
			}
			continue
		}
		info, err := os.Stat(f.Path(m.Source))
		if err != nil {
			errs = append(errs, fmt.Errorf("mount: %w", err))
			continue
		}
		if entries, err := os.ReadDir(f.Path(m.Source)); info.IsDir() && (err != nil || len(entries) == 0) {
			errs = append(errs, fmt.Errorf("mount: there is nothing in %s", m.Source))
		}
		if m.Mode != "ro" {
			errs = append(errs, fmt.Errorf("mount: %s can be written to, want :ro", m.Source))
		}
	}
	return errs
}

func (f *File) connected(s Service) (errs []error) {
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			errs = append(errs, fmt.Errorf("port %s is published on %q, want 127.0.0.1", p.Container, p.HostIP))
		}
		for _, port := range []string{p.Host, p.Container} {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				errs = append(errs, fmt.Errorf("port %q is not a number from 1 to 65535", port))
			}
		}
	}
	for name, d := range s.DependsOn {
		other, known := f.Services[name]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("depends on %s, which is none of the services", name))
		case d.Condition == "service_healthy" && other.Healthcheck == nil:
			errs = append(errs, fmt.Errorf("waits for the health of %s, which nobody asks for", name))
		case d.Condition != "service_healthy" && d.Condition != "service_started":
			errs = append(errs, fmt.Errorf("waits until %s is %q", name, d.Condition))
		}
	}
	if h := s.Healthcheck; h != nil && (len(h.Test) < 2 || h.Test[0] != "CMD") {
		errs = append(errs, fmt.Errorf("healthcheck: %q needs a shell, want CMD and a program", h.Test))
	}
	return errs
}
