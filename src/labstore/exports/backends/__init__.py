"""NFS servers behind the ExportServer Protocol."""
