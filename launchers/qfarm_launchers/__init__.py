"""What keeps workers busy: clusters, the launcher, the reaper of lost runs."""
