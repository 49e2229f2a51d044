"""What every room stands on: errors, folders and files, engines, what may be shown."""
